package cluster

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/protocol"
)

// unreadable is the reason of an attempt with a value that cannot be opened.
func unreadable(err error) *protocol.Reason {
	return protocol.NewReason(protocol.SecretUnreadable, "a secret value of the job cannot be opened: %v; submit the job again, under another name", err)
}

// makeSecrets makes the Secrets that a Job's pods wait for. They come after the
// Job, so that they go with it; a restart in between makes them up. Where a
// value cannot be opened it tells how the Job is to end, unless its Secrets
// have been there for long: what runs with them goes on.
func (s *session) makeSecrets(ctx context.Context, ref protocol.Ref, a attempt, job *batchv1.Job) (*workload.Stop, error) {
	if a.secrets || finished(job) || job.DeletionTimestamp != nil || workload.Stopping(job) != nil {
		return nil, nil
	}
	if !s.ours(job, ref) {
		s.o.Log.Warn().Str("job", job.Name).Str("namespace", job.Namespace).Msg("a Job looks like one of the agent's, and is not: it gets no secret values and no code")
		return nil, nil
	}
	var dryRun []string
	secrets, closed := s.unseal(job)
	if closed != nil {
		dryRun = []string{metav1.DryRunAll} // it tells whether they exist
	}
	if workload.HasCode(job) && closed == nil {
		secrets = append(secrets, workload.Secret(job, s.o.Token(ref)))
	}
	for _, secret := range secrets {
		_, err := s.o.Client.CoreV1().Secrets(job.Namespace).Create(ctx, secret, metav1.CreateOptions{DryRun: dryRun})
		switch {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			return nil, fmt.Errorf("create Secret %s in namespace %s: %w", secret.Name, secret.Namespace, err)
		case closed != nil:
			return &workload.Stop{State: protocol.Failed, Reason: *unreadable(closed)}, nil
		}
	}
	if closed != nil && len(secrets) == 0 {
		return &workload.Stop{State: protocol.Failed, Reason: *unreadable(closed)}, nil
	}
	s.note(ref, func(a *attempt) { a.secrets = true })
	return nil, nil
}

// ours reports whether the agent made the Job where it is. What is copied into
// another namespace, annotations and all, is somebody else's: whoever may read
// Jobs is not to read secret values by that.
func (s *session) ours(job *batchv1.Job, ref protocol.Ref) bool {
	return hmac.Equal([]byte(job.Annotations[workload.AnnotationMark]), []byte(s.o.Mark(ref, job.Namespace)))
}

// unseal makes the Secrets of a Job's sealed values. With an error, their
// values are missing.
func (s *session) unseal(job *batchv1.Job) (secrets []*corev1.Secret, closed error) {
	boxes, err := workload.Sealed(job)
	if err != nil {
		return nil, err
	}
	id, err := workload.IdentifyJob(job)
	if err != nil {
		return nil, err
	}
	open := func(use string, box *protocol.Sealed) []byte {
		value, err := s.o.Open(seal.Purpose{Job: id.Job, Spec: id.Digest, Use: use}, box)
		closed = errors.Join(closed, err)
		return value
	}
	env := make(map[string][]byte, len(boxes.Env))
	for name, box := range boxes.Env {
		env[name] = open(seal.UseEnv(name), &box)
	}
	config := []byte("{}")
	if boxes.Pull != nil {
		if value := open(seal.UsePull, boxes.Pull); json.Valid(value) {
			config = value
		} else if closed == nil {
			closed = fmt.Errorf("%s: it is no docker configuration", seal.UsePull)
		}
	}
	if closed != nil {
		env, config = nil, []byte("{}")
	}
	if len(boxes.Env) > 0 {
		secrets = append(secrets, workload.EnvSecret(job, env))
	}
	if boxes.Pull != nil {
		secrets = append(secrets, workload.PullSecret(job, config))
	}
	return secrets, closed
}

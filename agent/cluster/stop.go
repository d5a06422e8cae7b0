package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// errGone says that a Job is not there any more; its name may be another's.
var errGone = errors.New("the Job is gone")

// stop brings a Job to an end of the agent's. The annotation says which, for
// whoever leads by then. A cancel then deletes the Job; else the Job controller
// is told that its time is over, and stops the pods.
func (s *session) stop(ctx context.Context, job *batchv1.Job, stop *workload.Stop) error {
	patch := map[string]any{"metadata": map[string]any{
		"uid":         job.UID, // a precondition
		"annotations": map[string]string{workload.AnnotationStopping: stop.Annotation()},
	}}
	if stop.State != protocol.Canceled {
		patch["spec"] = map[string]any{"activeDeadlineSeconds": 1}
	}
	s.o.Log.Info().Str("job", job.Name).Str("namespace", job.Namespace).Stringer("reason", stop.Reason).Msg("stopping")
	if err := s.patch(ctx, job, patch); err != nil {
		return err
	}
	if stop.State == protocol.Canceled {
		return s.remove(ctx, job)
	}
	return nil
}

// remove deletes exactly this Job, and its pods before it: by default the API
// would leave the pods of a Job running.
func (s *session) remove(ctx context.Context, job *batchv1.Job) error {
	err := s.o.Client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationForeground),
		Preconditions:     metav1.NewUIDPreconditions(string(job.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("delete Job %s in namespace %s: %w", job.Name, job.Namespace, err)
	}
	return nil
}

// release lets a finished Job go after its time.
func (s *session) release(ctx context.Context, job *batchv1.Job) error {
	if job.Spec.TTLSecondsAfterFinished != nil {
		return nil
	}
	return s.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"uid": job.UID},
		"spec":     map[string]any{"ttlSecondsAfterFinished": int(protocol.FinishedJobTTL.Seconds())},
	})
}

func (s *session) patch(ctx context.Context, job *batchv1.Job, patch map[string]any) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patch Job %s: %w", job.Name, err)
	}
	_, err = s.o.Client.BatchV1().Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, data, metav1.PatchOptions{})
	// Another UID makes the patch a change of what cannot change.
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) && strings.Contains(err.Error(), "metadata.uid") {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("patch Job %s in namespace %s: %w", job.Name, job.Namespace, err)
	}
	return nil
}

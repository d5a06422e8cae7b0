package workload

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/protocol"
)

// AnnotationSealed is the JSON of Boxes, on the Job only: whoever leads can
// open them again when the Job's Secrets are missing.
const AnnotationSealed = "trainrelay.dev/sealed"

// Boxes are the sealed values of a Job.
type Boxes struct {
	Env  map[string]protocol.Sealed `json:"env,omitempty"`
	Pull *protocol.Sealed           `json:"pull,omitempty"`
}

// boxes are those of a job; false where it has none.
func boxes(job *protocol.Job) (Boxes, bool) {
	return Boxes{Env: job.SecretEnv, Pull: job.PullSecret}, len(job.SecretEnv) > 0 || job.PullSecret != nil
}

// annotation is the value of AnnotationSealed.
func (b Boxes) annotation() string {
	note, err := json.Marshal(b)
	if err != nil { // strings and bytes always marshal
		panic(err)
	}
	return string(note)
}

// Sealed reads the boxes of a Job; those of one without are empty.
func Sealed(job metav1.Object) (b Boxes, err error) {
	note, has := job.GetAnnotations()[AnnotationSealed]
	if !has {
		return b, nil
	}
	if err := json.Unmarshal([]byte(note), &b); err != nil {
		return Boxes{}, fmt.Errorf("annotation %s of Job %s/%s cannot be read: %w", AnnotationSealed, job.GetNamespace(), job.GetName(), err)
	}
	return b, nil
}

// Names of a Job's Secrets beside that of its token.
func envSecretName(job string) string  { return job + "-env" }
func pullSecretName(job string) string { return job + "-pull" }

// EnvSecret holds the Job's secret variables.
func EnvSecret(job *batchv1.Job, values map[string][]byte) *corev1.Secret {
	return secret(job, envSecretName(job.Name), corev1.SecretTypeOpaque, values)
}

// PullSecret holds the docker configuration with which the Job's image is
// pulled.
func PullSecret(job *batchv1.Job, config []byte) *corev1.Secret {
	return secret(job, pullSecretName(job.Name), corev1.SecretTypeDockerConfigJson, map[string][]byte{corev1.DockerConfigJsonKey: config})
}

// Secret holds the token of the Job's attempt.
func Secret(job *batchv1.Job, token string) *corev1.Secret {
	return secret(job, job.Name, corev1.SecretTypeOpaque, map[string][]byte{tokenFile: []byte(token)})
}

// secret goes with the Job, which has to exist first.
func secret(job *batchv1.Job, name string, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: job.Namespace, Labels: job.Labels,
			// Without BlockOwnerDeletion, which some clusters let only those
			// set who may change the Job's finalizers.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: job.Name, UID: job.UID,
			}},
		},
		Immutable: ptr.To(true),
		Type:      kind,
		Data:      data,
	}
}

// secretVariables are the variables whose values the Job's Secret has.
func secretVariables(start *protocol.Start) []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(start.Job.SecretEnv)) {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: envSecretName(Name(start.Ref()))}, Key: name,
		}}})
	}
	return env
}

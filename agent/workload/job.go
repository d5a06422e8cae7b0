package workload

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/protocol"
)

// Rules of the pod failure policy, by index: the Job's Failed condition names
// the one that matched, which tells the cause when the pod is gone already.
const (
	RuleDisruption = 0
	RuleExitCode   = 1
)

// Job makes the Job of an attempt on a compute, which must have the start's
// instance type. It fails where that is none that Kubernetes could take.
func Job(start *protocol.Start, on *protocol.Compute, o Options) (*batchv1.Job, error) {
	ref, job := start.Ref(), &start.Job
	pod, err := podSpec(start, on, o)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{
		LabelManagedBy:                 ManagedBy,
		"app.kubernetes.io/managed-by": ManagedBy,
		LabelCompute:                   job.Compute,
	}
	if start.InstanceType != "" {
		labels[LabelInstanceType] = start.InstanceType
	}
	notes := map[string]string{
		AnnotationJob:     ref.Job,
		AnnotationAttempt: strconv.Itoa(ref.Attempt),
		AnnotationDigest:  job.Digest(),
	}
	jobNotes := maps.Clone(notes)
	if job.TimeoutSeconds > 0 {
		jobNotes[AnnotationTimeout] = strconv.FormatInt(job.TimeoutSeconds, 10)
	}
	if b, has := boxes(job); has {
		jobNotes[AnnotationSealed] = b.annotation()
	}
	instances := int32(job.Instances)
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(ref), Namespace: on.Namespace, Labels: labels, Annotations: jobNotes},
		Spec: batchv1.JobSpec{
			CompletionMode:       ptr.To(batchv1.IndexedCompletion),
			Completions:          &instances,
			Parallelism:          &instances,
			BackoffLimit:         ptr.To(int32(0)),
			PodReplacementPolicy: ptr.To(batchv1.Failed),
			PodFailurePolicy:     failurePolicy(),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: notes},
				Spec:       pod,
			},
		},
	}, nil
}

// failurePolicy fails the Job at the first failure. The backoff limit of 0
// would do so too; the rules make the condition say what it was.
func failurePolicy() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		RuleDisruption: {
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		},
		RuleExitCode: {
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{0},
			},
		},
	}}
}

func podSpec(start *protocol.Start, on *protocol.Compute, o Options) (corev1.PodSpec, error) {
	job := &start.Job
	kind, ok := on.Type(start.InstanceType)
	if !ok {
		return corev1.PodSpec{}, fmt.Errorf("compute %s has no instance type %q; it has %s", on.Name, start.InstanceType, on.TypeNames())
	}
	takes, err := ResourcesOf(&kind)
	if err != nil {
		return corev1.PodSpec{}, fmt.Errorf("instance type %s of compute %s: %w", start.InstanceType, on.Name, err)
	}
	spec := corev1.PodSpec{
		NodeSelector:                 kind.NodeSelector,
		Tolerations:                  TolerationsOf(on),
		PriorityClassName:            on.PriorityClass,
		RestartPolicy:                corev1.RestartPolicyNever,
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			RunAsUser:      on.RunAsUser,
		},
		Containers: []corev1.Container{{
			Name:                     MainContainer,
			Image:                    fullImage(job.Image),
			Command:                  []string{"/bin/sh", "-c", literal(job.Command)},
			Env:                      append(environment(job), secretVariables(start)...),
			Resources:                takes,
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          confined(),
		}},
	}
	if on.RunAsUser != nil && *on.RunAsUser > 0 {
		spec.SecurityContext.RunAsNonRoot = ptr.To(true)
	}
	for _, name := range slices.Concat(o.ImagePullSecrets, on.ImagePullSecrets) {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if job.PullSecret != nil {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: pullSecretName(Name(start.Ref()))})
	}
	if job.Instances > 1 {
		spec.Subdomain = ServiceName
	}
	if job.Code != "" {
		addCode(&spec, start, o)
	}
	if job.ShmBytes > 0 {
		if err := addShm(&spec, job.ShmBytes); err != nil {
			return spec, fmt.Errorf("instance type %s of compute %s: %w", start.InstanceType, on.Name, err)
		}
	}
	return spec, nil
}

// environment is what the job's file sets over what Azure ML sets and is true
// here.
func environment(job *protocol.Job) []corev1.EnvVar {
	values := map[string]string{
		"AZUREML_RUN_ID":     job.Name,
		"AZUREML_NODE_COUNT": strconv.Itoa(job.Instances),
	}
	if job.Experiment != "" {
		values["AZUREML_EXPERIMENT_NAME"] = job.Experiment
	}
	maps.Copy(values, job.Env)
	for name := range job.SecretEnv {
		delete(values, name)
	}
	const rank = "AZUREML_CR_NODE_RANK"
	var env []corev1.EnvVar
	_, plain := values[rank]
	if _, secret := job.SecretEnv[rank]; !plain && !secret {
		env = append(env, corev1.EnvVar{Name: rank, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{
				APIVersion: "v1",
				FieldPath:  fmt.Sprintf("metadata.annotations['%s']", batchv1.JobCompletionIndexAnnotation),
			},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, corev1.EnvVar{Name: name, Value: literal(values[name])})
	}
	return env
}

// Rank is the rank of a Job's pod.
func Rank(pod *corev1.Pod) (int, error) {
	rank, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || rank < 0 || rank >= protocol.MaxInstances {
		return 0, fmt.Errorf("pod %s/%s: annotation %s is %q, not a rank", pod.Namespace, pod.Name,
			batchv1.JobCompletionIndexAnnotation, pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	}
	return rank, nil
}

// HasCode reports whether the Job's pods fetch code, and so need its Secret.
func HasCode(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Spec.Template.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == CodeContainer })
}

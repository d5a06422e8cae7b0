package cluster

import (
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// made is the Job of a start on a compute without settings.
func made(start *protocol.Start, namespace string) *batchv1.Job {
	job, err := workload.Job(start, &protocol.Compute{Name: "onprem", Namespace: namespace}, workload.Options{})
	if err != nil {
		panic(err)
	}
	return job
}

// jobOf is the Job of an attempt with an hour's timeout.
func jobOf(ranks int, change ...func(*batchv1.Job)) *batchv1.Job {
	job := made(&protocol.Start{Attempt: 1, Job: protocol.Job{
		Name: "iris", Command: "true", Image: "sklearn", Compute: "onprem", Instances: ranks, TimeoutSeconds: 3600,
		Code: "sha256:" + strings.Repeat("0", 64),
	}}, "train")
	for _, c := range change {
		c(job)
	}
	return job
}

func with(kind batchv1.JobConditionType, reason, message string) func(*batchv1.Job) {
	return func(job *batchv1.Job) {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		})
	}
}

func stopping(state protocol.State, code protocol.ReasonCode, retry bool) func(*batchv1.Job) {
	return func(job *batchv1.Job) {
		stop := workload.Stop{State: state, Reason: *protocol.NewReason(code, "as noted"), Retry: retry}
		job.Annotations[workload.AnnotationStopping] = stop.Annotation()
	}
}

// podOf is the pod of a rank on node1.
func podOf(job *batchv1.Job, rank int, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: job.Name + "-" + strconv.Itoa(rank), Namespace: job.Namespace,
			Annotations: map[string]string{batchv1.JobCompletionIndexAnnotation: strconv.Itoa(rank)},
		},
		Spec:   job.Spec.Template.Spec,
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	pod.Spec.NodeName = "node1"
	for _, c := range change {
		c(pod)
	}
	return pod
}

func unbound(words string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.NodeName = ""
		if words != "" {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: words}}
		}
	}
}

func waits(container, reason, message string) func(*corev1.Pod) {
	return state(container, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})
}

func runs(container string, ago time.Duration) func(*corev1.Pod) {
	return state(container, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon.Add(-ago))}})
}

func exits(container string, code int32, reason, message string, ago time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		state(container, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, Message: message, FinishedAt: metav1.NewTime(noon.Add(-ago)),
		}})(pod)
		if code != 0 {
			pod.Status.Phase = corev1.PodFailed
		}
	}
}

func state(name string, state corev1.ContainerState) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		status := corev1.ContainerStatus{Name: name, Image: "sklearn", State: state}
		if name == workload.CodeContainer {
			pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, status)
			return
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
	}
}

func rejected(reason, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, reason, message
	}
}

func deletedFor(ago time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: noon.Add(-ago)} }
}

func disrupted(reason, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		})
	}
}

func event(count int32, message string) *corev1.Event {
	return &corev1.Event{Message: "Error creating: " + message, Count: count, LastTimestamp: metav1.NewTime(noon)}
}

// says renders a verdict for the table: state, reason, then what else it has.
func (v verdict) says() string {
	words := string(v.state)
	if v.reason != nil {
		words += "; " + v.reason.String()
	}
	if v.exit != nil {
		words += "; exit " + strconv.Itoa(*v.exit)
	}
	if v.retry {
		words += "; retry"
	}
	if v.stop != nil {
		words += "; stop as " + string(v.stop.State) + " for " + string(v.stop.Reason.Code)
		if v.stop.Retry {
			words += ", retry"
		}
	}
	if v.again != 0 {
		words += "; again in " + v.again.String()
	}
	return words
}

const (
	podSecurity = `pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true`
	overQuota   = `pods "x" is forbidden: exceeded quota: train, requested: requests.cpu=100m, used: requests.cpu=2, limited: requests.cpu=2`
	aboveRange  = `pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2`
	webhook     = `admission webhook "images.example" denied the request: no`
	ruleExit    = "Container main for pod train/tr-0-abc failed with exit code 3 matching FailJob rule at index 1"
	ruleDisrupt = "Pod train/tr-0-abc has condition DisruptionTarget matching FailJob rule at index 0"
)

func TestDerive(t *testing.T) {
	failed := with(batchv1.JobFailed, "PodFailurePolicy", ruleExit)
	deadline := with(batchv1.JobFailed, "DeadlineExceeded", "Job was active longer than specified deadline")
	for _, tc := range []struct {
		name   string
		job    *batchv1.Job
		pods   []*corev1.Pod
		events []*corev1.Event
		want   string
	}{
		{"just created", jobOf(1), nil, nil, "Queued"},
		{"pods refused by quota", jobOf(1), nil, []*corev1.Event{event(9, overQuota)}, "Queued; QuotaExceeded: " + overQuota},
		{"pods refused by Pod Security, once", jobOf(1), nil, []*corev1.Event{event(1, podSecurity)}, "Queued; PodRefused: " + podSecurity},
		{"pods refused by Pod Security, twice", jobOf(1), nil, []*corev1.Event{event(1, podSecurity), event(1, podSecurity)},
			"Queued; PodRefused: " + podSecurity + "; stop as Failed for PodRefused"},
		{"pods refused by a LimitRange", jobOf(1), nil, []*corev1.Event{event(2, aboveRange)}, "Queued; PodRefused: " + aboveRange + "; stop as Failed for PodRefused"},
		{"pods refused by a webhook", jobOf(1), nil, []*corev1.Event{event(9, webhook)}, "Queued; PodRefused: " + webhook},
		{"refused before, there now", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0)}, []*corev1.Event{event(9, podSecurity)}, "Preparing"},
		{"one rank refused", jobOf(2), []*corev1.Pod{podOf(jobOf(2), 0, runs("main", time.Minute))}, []*corev1.Event{event(9, overQuota)},
			"Running; QuotaExceeded: " + overQuota + "; again in 59m0s"},

		{"no node yet", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, unbound(""))}, nil, "Queued"},
		{"no node fits", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, unbound("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."))}, nil,
			"Queued; Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
		{"on a node", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, waits("main", "ContainerCreating", ""))}, nil, "Preparing"},
		{"fetching code", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("code", time.Minute), waits("main", "PodInitializing", ""))}, nil,
			"Preparing; CodeFetch: fetching the code"},
		{"image missing", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, waits("main", "ErrImagePull", "not found"))}, nil,
			"Preparing; ImagePull: sklearn: ErrImagePull: not found"},
		{"launcher's image missing", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, waits("code", "ImagePullBackOff", "Back-off"), waits("main", "PodInitializing", ""))}, nil,
			"Preparing; ImagePull: sklearn: ImagePullBackOff: Back-off"},
		{"no such Secret", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, waits("main", "CreateContainerConfigError", "secret \"x\" not found"))}, nil,
			"Preparing; ContainerConfig: CreateContainerConfigError: secret \"x\" not found"},

		{"running", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", time.Minute))}, nil, "Running; again in 59m0s"},
		{"running, no timeout", jobOf(1, func(j *batchv1.Job) { delete(j.Annotations, workload.AnnotationTimeout) }),
			[]*corev1.Pod{podOf(jobOf(1), 0, runs("main", time.Minute))}, nil, "Running"},
		{"one rank runs, one waits", jobOf(2), []*corev1.Pod{podOf(jobOf(2), 1, unbound("0/1 nodes")), podOf(jobOf(2), 0, runs("main", time.Minute))}, nil,
			"Running; Unschedulable: rank 1: 0/1 nodes; again in 59m0s"},
		{"timed out, by the first rank", jobOf(2), []*corev1.Pod{podOf(jobOf(2), 0, runs("main", 59*time.Minute)), podOf(jobOf(2), 1, runs("main", time.Hour))}, nil,
			"Running; stop as Failed for Timeout"},
		{"queued for long is no timeout", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("code", 9*time.Hour))}, nil, "Preparing; CodeFetch: fetching the code"},
		{"every command through", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 0, "Completed", "", time.Minute))}, nil, "Finalizing"},
		{"one rank through", jobOf(2), []*corev1.Pod{podOf(jobOf(2), 0, exits("main", 0, "Completed", "", 0)), podOf(jobOf(2), 1, runs("main", 0))}, nil, "Running; again in 1h0m0s"},

		{"success criteria met", jobOf(1, with(batchv1.JobSuccessCriteriaMet, "", "")), nil, nil, "Finalizing; Stopping: pods are being stopped"},
		{"failing, others still run", jobOf(2, with(batchv1.JobFailureTarget, "PodFailurePolicy", ruleExit)),
			[]*corev1.Pod{podOf(jobOf(2), 0, exits("main", 3, "Error", "", 0)), podOf(jobOf(2), 1, runs("main", time.Minute))}, nil,
			"Finalizing; Stopping: pods are being stopped"},
		{"complete", jobOf(1, with(batchv1.JobComplete, "", "")), nil, nil, "Completed; exit 0"},

		{"exit code", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 3, "Error", "Traceback\nValueError: no\n", 0))}, nil,
			"Failed; ExitCode: exit code 3; its output ends with: Traceback\nValueError: no; exit 3"},
		{"exit code of the rank that failed first", jobOf(2, failed), []*corev1.Pod{
			podOf(jobOf(2), 0, exits("main", 143, "Error", "", time.Second)), podOf(jobOf(2), 1, exits("main", 3, "Error", "", time.Minute))}, nil,
			"Failed; ExitCode: rank 1: exit code 3; exit 3"},
		{"killed", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 137, "Error", "", 0))}, nil, "Failed; ExitCode: exit code 137 (SIGKILL); exit 137"},
		{"exit code, pod gone", jobOf(1, failed), nil, nil, "Failed; ExitCode: exit code 3; exit 3"},
		{"out of memory", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 137, "OOMKilled", "", 0))}, nil,
			"Failed; OOMKilled: the memory limit of 4Gi was exceeded; exit code 137 (SIGKILL); exit 137"},
		{"no shell in the image", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 128, "StartError", `exec: "/bin/sh": no such file`, 0))}, nil,
			`Failed; ContainerConfig: StartError: exec: "/bin/sh": no such file; exit 128`},
		{"code not fetched", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("code", 1, "Error", "the gateway answers 403", 0))}, nil,
			"Failed; CodeFetch: the gateway answers 403"},
		{"code not fetched, without a word", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("code", 2, "Error", "", 0))}, nil,
			"Failed; CodeFetch: the launcher ended with exit code 2"},
		{"the container's end was lost", jobOf(1, failed), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 137, "ContainerStatusUnknown", "gone", 0))}, nil,
			"Failed; Disrupted: node node1 lost the container: gone; retry"},
		{"refused by the kubelet", jobOf(1, with(batchv1.JobFailed, "BackoffLimitExceeded", "reached")), []*corev1.Pod{podOf(jobOf(1), 0, rejected("OutOfcpu", "Node didn't have enough resource: cpu"))}, nil,
			"Failed; PodFailed: OutOfcpu: Node didn't have enough resource: cpu; retry"},
		{"failed for another reason", jobOf(1, with(batchv1.JobFailed, "BackoffLimitExceeded", "Job has reached the specified backoff limit")), nil, nil,
			"Failed; PodFailed: BackoffLimitExceeded: Job has reached the specified backoff limit"},
		{"evicted", jobOf(2, with(batchv1.JobFailed, "PodFailurePolicy", ruleDisrupt)), []*corev1.Pod{
			podOf(jobOf(2), 0, exits("main", 143, "Error", "", 0)), podOf(jobOf(2), 1, exits("main", 137, "Error", "", 0), disrupted("PreemptionByScheduler", "preempted"))}, nil,
			"Failed; Disrupted: rank 1: PreemptionByScheduler preempted; retry"},
		{"evicted, pod gone", jobOf(1, with(batchv1.JobFailed, "PodFailurePolicy", ruleDisrupt)), nil, nil, "Failed; Disrupted: " + ruleDisrupt + "; retry"},
		{"being evicted", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", time.Minute), deletedFor(0), disrupted("EvictionByEvictionAPI", "drained"))}, nil,
			"Running; Stopping: pod tr-8tgimcblvr70-1-0 is being stopped: EvictionByEvictionAPI drained; again in 5m0s"},

		{"node gone for four minutes", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 2*time.Minute), deletedFor(4*time.Minute))}, nil,
			"Running; Stopping: pod tr-8tgimcblvr70-1-0 is being stopped; again in 1m0s"},
		{"node gone for good", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 6*time.Minute), deletedFor(5*time.Minute))}, nil,
			"Running; Stopping: pod tr-8tgimcblvr70-1-0 is being stopped; stop as Failed for NodeLost, retry; again in 54m0s"},
		{"node gone, pod's end known", jobOf(1), []*corev1.Pod{podOf(jobOf(1), 0, exits("main", 1, "Error", "", 0), deletedFor(time.Hour))}, nil, "Finalizing"},
		{"noted as lost", jobOf(1, stopping(protocol.Failed, protocol.NodeLost, true)), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 0))}, nil, "Failed; NodeLost: as noted; retry"},
		{"noted as lost, then the node came back", jobOf(1, stopping(protocol.Failed, protocol.NodeLost, true), with(batchv1.JobComplete, "", "")), nil, nil, "Failed; NodeLost: as noted; retry"},

		{"timing out", jobOf(1, stopping(protocol.Failed, protocol.Timeout, false)), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 2*time.Hour))}, nil, "Finalizing; Timeout: as noted"},
		{"timed out", jobOf(1, stopping(protocol.Failed, protocol.Timeout, false), deadline), nil, nil, "Failed; Timeout: as noted"},
		{"timing out, but it failed first", jobOf(1, stopping(protocol.Failed, protocol.Timeout, false), failed), nil, nil, "Failed; ExitCode: exit code 3; exit 3"},
		{"timing out, but it completed first", jobOf(1, stopping(protocol.Failed, protocol.Timeout, false), with(batchv1.JobComplete, "", "")), nil, nil, "Completed; exit 0"},
		{"timing out on a lost node", jobOf(1, stopping(protocol.Failed, protocol.Timeout, false)), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 2*time.Hour), deletedFor(time.Hour))}, nil,
			"Failed; Timeout: as noted"},
		{"somebody else's deadline", jobOf(1, deadline), nil, nil, "Failed; PodFailed: DeadlineExceeded: Job was active longer than specified deadline"},
		{"being canceled", jobOf(1, stopping(protocol.Canceled, protocol.UserCanceled, false)), []*corev1.Pod{podOf(jobOf(1), 0, runs("main", 0))}, nil, "Finalizing; UserCanceled: as noted"},
		{"being deleted", jobOf(1, func(j *batchv1.Job) { j.DeletionTimestamp = &metav1.Time{Time: noon} }), nil, nil, "Finalizing; Stopping: pods are being stopped"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := derive(evidence{job: tc.job, pods: tc.pods, refusals: tc.events, now: noon, lostAfter: 5 * time.Minute})
			if diff := cmp.Diff(tc.want, v.says()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			e := v.event(protocol.Ref{Job: "iris", Attempt: 1}, noon)
			e.Version.Term = 1
			if err := e.Validate(); err != nil {
				t.Errorf("the relay would refuse it: %v", err)
			}
		})
	}
}

// TestNode: the first rank's node is the attempt's.
func TestNode(t *testing.T) {
	job := jobOf(2)
	on := func(node string) func(*corev1.Pod) { return func(pod *corev1.Pod) { pod.Spec.NodeName = node } }
	v := derive(evidence{job: job, pods: []*corev1.Pod{podOf(job, 1, on("b")), podOf(job, 0, on("a"))}, now: noon})
	if v.node != "a" {
		t.Errorf("node is %q", v.node)
	}
}

func TestTail(t *testing.T) {
	long := strings.Repeat("a line\n", 400) + "the last"
	got := tail(long)
	if len(got) > 1100 || !strings.HasPrefix(got, "…a line\n") || !strings.HasSuffix(got, "the last") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := tail(strings.Repeat("é", 2000)); !strings.HasSuffix(got, "é") {
		t.Errorf("%q", got)
	}
}

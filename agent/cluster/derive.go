package cluster

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// evidence is all that an attempt's state is derived from.
type evidence struct {
	job       *batchv1.Job
	pods      []*corev1.Pod   // of the Job, in any order
	refusals  []*corev1.Event // of the Job: why pods could not be created
	now       time.Time
	lostAfter time.Duration // how long a pod may outlast its deletion
}

// verdict is what an attempt has come to.
type verdict struct {
	state  protocol.State
	reason *protocol.Reason
	exit   *int
	node   string // of the first rank
	retry  bool
	stop   *workload.Stop // the Job is to be brought to this end
	again  time.Duration  // time alone may change the verdict then; 0 for never
}

func (v verdict) event(ref protocol.Ref, now time.Time) protocol.Event {
	return protocol.Event{
		Ref: ref, State: v.state, Reason: v.reason, Time: now.UTC(),
		ExitCode: v.exit, Node: v.node, Retry: v.retry,
	}
}

// derive tells an attempt's state. Only Complete and Failed are ends of a Job:
// at FailureTarget and SuccessCriteriaMet pods still run.
func derive(e evidence) verdict {
	slices.SortFunc(e.pods, func(a, b *corev1.Pod) int { return cmp.Compare(rankOf(a), rankOf(b)) })
	v := e.verdict()
	if len(e.pods) > 0 && rankOf(e.pods[0]) == 0 {
		v.node = e.pods[0].Spec.NodeName
	}
	return v
}

func (e evidence) verdict() verdict {
	stop := workload.Stopping(e.job)
	if stop != nil && stop.Reason.Code == protocol.NodeLost {
		return ended(stop) // whatever the node says, should it come back
	}
	if condition(e.job, batchv1.JobComplete) != nil {
		return verdict{state: protocol.Completed, exit: new(int)}
	}
	if failed := condition(e.job, batchv1.JobFailed); failed != nil {
		if stop != nil && failed.Reason == batchv1.JobReasonDeadlineExceeded {
			return ended(stop)
		}
		return failure(e.job, failed, e.pods)
	}
	lost, again := e.lost()
	switch {
	case lost != nil && stop != nil:
		return ended(stop) // nobody is left to confirm it
	case lost != nil:
		v := e.living()
		v.stop = lost
		return v
	case stop != nil:
		return verdict{state: protocol.Finalizing, reason: &stop.Reason, again: again}
	case winding(e.job):
		return verdict{state: protocol.Finalizing, reason: protocol.NewReason(protocol.Stopping, "pods are being stopped"), again: again}
	}
	v := e.living()
	v.again = sooner(v.again, again)
	return v
}

// ended is the end that a stop brings.
func ended(stop *workload.Stop) verdict {
	return verdict{state: stop.State, reason: &stop.Reason, retry: stop.Retry}
}

// finished reports whether nothing of a Job runs any more.
func finished(job *batchv1.Job) bool {
	return condition(job, batchv1.JobComplete) != nil || condition(job, batchv1.JobFailed) != nil
}

// winding reports whether the Job is being deleted, or is over but for pods
// that still stop.
func winding(job *batchv1.Job) bool {
	return job.DeletionTimestamp != nil ||
		condition(job, batchv1.JobFailureTarget) != nil || condition(job, batchv1.JobSuccessCriteriaMet) != nil
}

// condition returns the Job's condition where it is true, else nil.
func condition(job *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range job.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}

// instances is how many pods the Job is to have.
func instances(job *batchv1.Job) int { return int(ptr.Deref(job.Spec.Completions, 1)) }

// living derives the state of a Job that nothing has ended yet.
func (e evidence) living() verdict {
	v := verdict{state: protocol.Queued}
	furthest := queued
	var started time.Time
	done := 0
	for _, pod := range e.pods {
		p := look(pod)
		if !p.started.IsZero() && (started.IsZero() || p.started.Before(started)) {
			started = p.started
		}
		if p.stage == through {
			done++
			continue
		}
		furthest = max(furthest, p.stage)
		if v.reason == nil && p.reason != nil {
			v.reason = p.reason
			if len(e.pods) > 1 {
				v.reason = protocol.NewReason(p.reason.Code, "rank %d: %s", rankOf(pod), p.reason.Message)
			}
		}
	}
	switch {
	case done > 0 && done >= instances(e.job):
		v.state = protocol.Finalizing
	case furthest == running:
		v.state = protocol.Running
	case furthest == preparing:
		v.state = protocol.Preparing
	}
	if len(e.pods) < instances(e.job) {
		reason, final := refusal(e.refusals)
		if reason != nil {
			v.reason = reason
		}
		if final {
			v.stop = &workload.Stop{State: protocol.Failed, Reason: *reason}
		}
	}
	e.timeout(&v, started)
	return v
}

// timeout ends an attempt whose running time, which counts from the start of
// its first command, is used up.
func (e evidence) timeout(v *verdict, started time.Time) {
	limit := time.Duration(workload.TimeoutSeconds(e.job)) * time.Second
	if limit == 0 || started.IsZero() || v.state == protocol.Finalizing {
		return
	}
	if left := started.Add(limit).Sub(e.now); left > 0 {
		v.again = left
		return
	}
	v.stop = &workload.Stop{
		State:  protocol.Failed,
		Reason: *protocol.NewReason(protocol.Timeout, "limits.timeout of %s of running time is used up", limit),
	}
}

// lost tells whether a pod outlasts its deletion, which means that its node
// does not answer: nobody will ever say how the pod ended. Before that, it
// tells when to look again.
func (e evidence) lost() (stop *workload.Stop, again time.Duration) {
	for _, pod := range e.pods {
		if pod.DeletionTimestamp == nil || pod.Spec.NodeName == "" || over(pod) {
			continue
		}
		left := pod.DeletionTimestamp.Add(e.lostAfter).Sub(e.now)
		if left > 0 {
			again = sooner(again, left)
			continue
		}
		return &workload.Stop{
			State: protocol.Failed, Retry: true,
			Reason: *protocol.NewReason(protocol.NodeLost, "node %s does not answer; rank %d was to stop by %s",
				pod.Spec.NodeName, rankOf(pod), pod.DeletionTimestamp.UTC().Format(time.RFC3339)),
		}, 0
	}
	return nil, again
}

// sooner is the shorter of two times to wait, of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// rankOf is a pod's rank; the Job controller notes it on every pod.
func rankOf(pod *corev1.Pod) int {
	rank, err := workload.Rank(pod)
	if err != nil {
		return protocol.MaxInstances
	}
	return rank
}

// over reports whether the pod will never run again.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

package apiserver

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// timedOut brings an attempt to the moment when its pod is to stop.
func timedOut(t *testing.T, r *room, namespace, name string) (protocol.Ref, func()) {
	t.Helper()
	ref := r.grant(unstarted(name, func(j *protocol.Job) { j.TimeoutSeconds = 1 }), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Finalizing, protocol.Timeout)
	return ref, func() { obey(t, pods[0]) }
}

func TestTimeout(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref, obey := timedOut(t, r, namespace, "timeout")
	if len(r.ends(ref)) != 0 {
		t.Error("ended while its pod runs")
	}
	obey()
	r.await(ref, protocol.Failed, protocol.Timeout)
	r.oneEnd(ref)
	if jobOf(t, namespace, ref) == nil {
		t.Error("nothing is left to look at")
	}
}

// TestTimeoutAcrossRestart: no agent was there when the Job came to its end.
func TestTimeoutAcrossRestart(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref, obey := timedOut(t, r, namespace, "timeout")
	r.stop()
	obey()
	newRoom(t, []string{namespace}).await(ref, protocol.Failed, protocol.Timeout)
}

// TestNodeLost: a pod that outlasts its deletion has nobody to say how it
// ended.
func TestNodeLost(t *testing.T) {
	namespace := newNamespace(t, nil)
	soon := func(o *cluster.Options) { o.LostAfter = time.Second }
	r := newRoom(t, []string{namespace}, soon)
	ref := r.grant(unstarted("lost"), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Running, "")
	err := site.Client().CoreV1().Pods(namespace).Delete(t.Context(), pods[0].Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	if e := r.await(ref, protocol.Failed, protocol.NodeLost); !e.Retry {
		t.Error("not to be tried again")
	}
	if !r.holds(ref) {
		t.Error("its Job is there and not held, so nobody will have it deleted")
	}
	// The node comes back, and an agent that knows nothing says the same.
	exits(t, pods[0], 0)
	obey(t, pods[0])
	r.oneEnd(ref)
	r.stop()
	r = newRoom(t, []string{namespace}, soon)
	r.await(ref, protocol.Failed, protocol.NodeLost)
	r.Cancel(t.Context(), protocol.Cancel{Ref: ref, Ended: true}, protocol.Compute{})
	r.until("not held any more", func() bool { return !r.holds(ref) })
	r.oneEnd(ref)
}

// TestDeletedByAdmin: with the agent there, and without.
func TestDeletedByAdmin(t *testing.T) {
	namespace := newNamespace(t, nil)
	remove := func(ref protocol.Ref) {
		t.Helper()
		err := site.Client().BatchV1().Jobs(namespace).Delete(t.Context(), workload.Name(ref), metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "Job to be gone", func(context.Context) (bool, error) { return jobOf(t, namespace, ref) == nil, nil })
	}
	r := newRoom(t, []string{namespace})
	seen := r.grant(unstarted("seen"), namespace)
	unseen := r.grant(unstarted("unseen"), namespace)
	r.await(seen, protocol.Queued, protocol.Unschedulable)
	r.await(unseen, protocol.Queued, protocol.Unschedulable)
	remove(seen)
	r.await(seen, protocol.Failed, protocol.JobDeleted)
	r.oneEnd(seen)

	r.stop()
	remove(unseen)
	r = newRoom(t, []string{namespace})
	r.Resolve(t.Context(), protocol.Missing{Ref: unseen}, protocol.Compute{})
	r.await(unseen, protocol.Failed, protocol.JobDeleted)
	r.oneEnd(unseen)

	timed := protocol.Ref{Job: "timed", Attempt: 1}
	latest := protocol.Event{Ref: timed, State: protocol.Finalizing, Reason: protocol.NewReason(protocol.Timeout, "1h")}
	r.Resolve(t.Context(), protocol.Missing{Ref: timed, Latest: &latest}, protocol.Compute{})
	r.await(timed, protocol.Failed, protocol.Timeout)
	r.oneEnd(timed)
}

// TestResolvePresent: the relay missed a Job that is there after all.
func TestResolvePresent(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("present"), namespace)
	r.await(ref, protocol.Queued, protocol.Unschedulable)
	before := len(r.story())
	r.Resolve(t.Context(), protocol.Missing{Ref: ref}, protocol.Compute{})
	r.until("observed again", func() bool { return len(r.story()) > before })
	if len(r.ends(ref)) != 0 || !r.holds(ref) {
		t.Errorf("observed %s", r.story())
	}
}

package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

var iris = protocol.Ref{Job: "iris", Attempt: 1}

// idle is a session whose views are empty and which has no API server to ask:
// what it does anyway needs none.
func idle(t *testing.T) (s *session, observed *[]protocol.Event) {
	t.Helper()
	observed = new([]protocol.Event)
	s = newSession(&Options{
		Namespaces: []string{"train"}, LostAfter: time.Minute, MaxLive: 10, MaxUnscheduled: 5, Changed: func() {}, Mark: mark, InstanceTypes: func() map[string]protocol.InstanceType { return nil },
		Observe: func(e protocol.Event) { *observed = append(*observed, e) },
	})
	t.Cleanup(s.queue.ShutDown)
	for _, v := range s.views {
		if err := v.watch(s); err != nil {
			t.Fatal(err)
		}
	}
	return s, observed
}

func mark(ref protocol.Ref, namespace string) string { return namespace + " " + ref.String() }

func granted(deadline time.Duration) *grant {
	return &grant{
		start:    protocol.Start{Attempt: 1, Job: protocol.Job{Name: "iris", Compute: "onprem"}},
		compute:  protocol.Compute{Name: "onprem", Namespace: "train"},
		deadline: time.Now().Add(deadline),
	}
}

// TestAbsent: what becomes of an attempt that has no Job. Most of all, one that
// had a Job is never given a second one, though the relay grants it again.
func TestAbsent(t *testing.T) {
	timedOut := protocol.Event{State: protocol.Finalizing, Reason: protocol.NewReason(protocol.Timeout, "1h")}
	for _, tc := range []struct {
		name string
		a    attempt
		want string // state and reason; empty where nothing is observed
	}{
		{"had a Job", attempt{job: jobOf(1)}, "Failed JobDeleted"},
		{"had a Job, granted again", attempt{job: jobOf(1), start: granted(time.Hour)}, "Failed JobDeleted"},
		{"had a finished Job", attempt{job: jobOf(1, with(batchv1.JobComplete, "", ""))}, "Completed"},
		{"had a finished Job, canceled", attempt{job: jobOf(1, with(batchv1.JobComplete, "", "")), cancel: &protocol.Cancel{}}, "Completed"},
		{"had a Job, stopped at its timeout", attempt{job: jobOf(1, stopping(protocol.Failed, protocol.Timeout, false))}, "Failed Timeout"},
		{"had a Job, canceled", attempt{job: jobOf(1), cancel: &protocol.Cancel{}}, "Canceled UserCanceled"},
		{"had a Job, is a leftover", attempt{job: jobOf(1), cancel: &protocol.Cancel{Ended: true}}, ""},
		{"has ended", attempt{job: jobOf(1), ended: true}, ""},
		{"granted and canceled", attempt{start: granted(time.Hour), cancel: &protocol.Cancel{}}, "Canceled UserCanceled"},
		{"granted too long ago", attempt{start: granted(-time.Second)}, ""},
		{"missed", attempt{missing: &protocol.Missing{Ref: iris}}, "Failed JobDeleted"},
		{"missed after its timeout", attempt{missing: &protocol.Missing{Ref: iris, Latest: &timedOut}}, "Failed Timeout"},
		{"nothing", attempt{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, observed := idle(t)
			a := tc.a
			s.attempts[iris] = &a
			if err := s.absent(t.Context(), iris, a); err != nil {
				t.Fatal(err)
			}
			var got string
			for _, e := range *observed {
				if got += string(e.State); e.Reason != nil {
					got += " " + string(e.Reason.Code)
				}
			}
			if got != tc.want {
				t.Errorf("observed %q, want %q", got, tc.want)
			}
			if s.known(iris) {
				t.Error("it is still remembered")
			}
		})
	}
}

// TestSettleKeepsNewWishes: what came in while an attempt was worked on is not
// lost with it.
func TestSettleKeepsNewWishes(t *testing.T) {
	s, _ := idle(t)
	was := attempt{start: granted(time.Hour)}
	now := was
	now.cancel = &protocol.Cancel{Ref: iris}
	s.attempts[iris] = &now
	s.settle(iris, was)
	if a, ok := s.snapshot(iris); !ok || a.start != nil || a.cancel == nil {
		t.Errorf("left with %+v, %v", a, ok)
	}
}

// TestHeldAndRoom: a grant is held and takes room until it is too late for it.
func TestHeldAndRoom(t *testing.T) {
	s, _ := idle(t)
	s.attempts[iris] = &attempt{start: granted(time.Hour)}
	s.attempts[protocol.Ref{Job: "late", Attempt: 1}] = &attempt{start: granted(-time.Second)}
	s.attempts[protocol.Ref{Job: "canceled", Attempt: 1}] = &attempt{cancel: &protocol.Cancel{}}
	s.attempts[protocol.Ref{Job: "ended", Attempt: 1}] = &attempt{job: jobOf(1), ended: true}
	if diff := cmp.Diff([]protocol.Ref{iris}, s.held(false)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	want := []protocol.Room{{Compute: "onprem", Free: 4}}
	if diff := cmp.Diff(want, s.room([]protocol.Compute{{Name: "onprem", Namespace: "train"}})); diff != "" {
		t.Errorf("room (-want +got):\n%s", diff)
	}
}

// TestOutsideOfRun: before and after leading, nothing is known and no work is
// taken.
func TestOutsideOfRun(t *testing.T) {
	c := new(Cluster)
	c.Start(t.Context(), granted(time.Hour).start, protocol.Compute{}, time.Now().Add(time.Hour))
	c.Cancel(t.Context(), protocol.Cancel{Ref: iris}, protocol.Compute{})
	c.Folded(iris)
	c.Resend()
	if c.Synced() == nil || len(c.Held(true)) != 0 || len(c.Room([]protocol.Compute{{Name: "onprem"}})) != 0 {
		t.Errorf("synced %v, held %v", c.Synced(), c.Held(true))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{Namespaces: []string{"Train"}, Workload: workload.Options{}})
	for _, words := range []string{"no client", `"Train" is not a namespace's name`, "no launch image", "no token"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
}

package apiserver

import (
	"fmt"
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestRestartAtAnyStep: whenever the agent is gone and a new one comes, there
// was one Job, and one end is told that all agents agree on (I1, I3).
func TestRestartAtAnyStep(t *testing.T) {
	steps := []string{"granted", "created", "scheduled", "running", "ended", "folded"}
	for at, step := range steps {
		t.Run(step, func(t *testing.T) {
			namespace := newNamespace(t, nil)
			created := countCreated(t, namespace)
			start := unstarted("restart-" + step)
			ref := start.Ref()
			r := newRoom(t, []string{namespace})
			restart := func(now int) {
				if now == at {
					r.stop()
					r = newRoom(t, []string{namespace})
				}
			}
			r.grant(start, namespace)
			restart(0)
			// Nothing observed: the relay grants again; what it saw it does not.
			if len(r.story()) == 0 {
				r.grant(start, namespace)
			}
			r.awaitAny(ref)
			restart(1)
			pods := schedule(t, namespace, ref)
			restart(2)
			runs(t, pods[0])
			restart(3)
			exits(t, pods[0], 0)
			restart(4)
			r.await(ref, protocol.Completed, "")
			r.Folded(ref)
			r.until("its time to live", func() bool { return jobOf(t, namespace, ref).Spec.TTLSecondsAfterFinished != nil })
			restart(5)
			if step == "folded" {
				r.Resend() // a relay restored from a backup wants it again
				r.await(ref, protocol.Completed, "")
			}
			r.oneEnd(ref)
			if jobs := created(); len(jobs) != 1 {
				t.Errorf("%d Jobs were created", len(jobs))
			}
		})
	}
}

// TestFoldedEndsAreNotToldAgain: a restart is not to send an hour's ends.
func TestFoldedEndsAreNotToldAgain(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("folded"), namespace)
	exits(t, schedule(t, namespace, ref)[0], 0)
	r.await(ref, protocol.Completed, "")
	r.Folded(ref)
	r.until("its time to live", func() bool { return jobOf(t, namespace, ref).Spec.TTLSecondsAfterFinished != nil })
	r.stop()
	r = newRoom(t, []string{namespace})
	r.awaitAny(r.grant(unstarted("next"), namespace))
	if len(r.ends(ref)) != 0 {
		t.Errorf("told again: %s", r.story())
	}
}

// TestCancelAcrossRestart: the new agent goes on with a cancel before the relay
// has repeated it.
func TestCancelAcrossRestart(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("canceled"), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Running, "")
	r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
	r.await(ref, protocol.Finalizing, protocol.UserCanceled)
	r.stop()
	r = newRoom(t, []string{namespace})
	r.awaitAny(ref)
	obey(t, pods[0])
	r.await(ref, protocol.Canceled, protocol.UserCanceled)
	r.oneEnd(ref)
}

// TestServerAway: while the API server is dead nothing is claimed, and nothing
// is lost (the words).
func TestServerAway(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	before := r.grant(unstarted("before"), namespace)
	r.await(before, protocol.Queued, protocol.Unschedulable)

	server := site.Component("apiserver")
	if err := server.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("to be noticed", func() bool { return r.Synced() != nil })
	t.Log(r.Synced())
	during := r.grant(unstarted("during"), namespace)
	canceled := protocol.Ref{Job: "never", Attempt: 1}
	r.Cancel(t.Context(), cancelOf(canceled), protocol.Compute{})
	if !r.holds(before) {
		t.Error("forgot what it held")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("synced", func() bool { return r.Synced() == nil })
	r.awaitAny(during)
	r.await(canceled, protocol.Canceled, protocol.UserCanceled)
	runs(t, schedule(t, namespace, before)[0])
	r.await(before, protocol.Running, "")
	for _, ref := range []protocol.Ref{before, during} {
		if ends := r.ends(ref); len(ends) != 0 {
			t.Errorf("%s ended: %s", ref, fmt.Sprint(r.story()))
		}
	}
}

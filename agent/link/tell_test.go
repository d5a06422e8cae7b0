package link

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestEventsWaitForTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{term: 40, syncs: []*protocol.Sync{{}}}
		r.onSync = func(n int, _ *protocol.Sync, _ *protocol.SyncReply) error {
			if n < 3 {
				if len(r.events) > 0 {
					t.Error("an event was told before the term was known")
				}
				return errLost
			}
			return nil
		}
		l := newLink(t, r, w)
		l.Observe(event("a", protocol.Running))
		l.Observe(event("b", protocol.Completed))
		stop := lead(t, l)
		time.Sleep(time.Minute)
		_ = stop()
		var versions []protocol.Version
		for _, e := range r.events {
			versions = append(versions, e.Version)
		}
		if diff := cmp.Diff([]protocol.Version{{Term: 41, Seq: 1}, {Term: 41, Seq: 2}}, versions); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]protocol.Ref{ref("b")}, w.folded); diff != "" {
			t.Errorf("ends folded: %s", diff)
		}
	})
}

// churn is a life of the cluster, and what becomes of the requests meanwhile.
type churn struct {
	seen  []seen
	fates []error
}

type seen struct {
	event protocol.Event
	pause time.Duration
}

func drawChurn(rt *rapid.T) churn {
	return churn{
		seen: rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) seen {
			return seen{
				event: event(fmt.Sprintf("job%d", rapid.IntRange(0, 7).Draw(rt, "job")), rapid.SampledFrom([]protocol.State{
					protocol.Queued, protocol.Preparing, protocol.Running, protocol.Finalizing,
					protocol.Completed, protocol.Failed, protocol.Canceled}).Draw(rt, "state")),
				pause: time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond,
			}
		}), 1, 60).Draw(rt, "seen"),
		fates: rapid.SliceOf(rapid.SampledFrom([]error{nil, nil, errLost, errors.New("the request got lost"),
			&protocol.Refusal{Message: "disk full", Temporary: true}})).Draw(rt, "fates"),
	}
}

// Whatever is lost and however the cluster churns, the relay ends up with the
// newest observation of each attempt, and with its first end.
func TestEndsAreNotLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		churn := drawChurn(rt)
		var wrong error
		synctest.Test(t, func(t *testing.T) { wrong = live(t, churn) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func live(t *testing.T, churn churn) error {
	w := newWorkloads()
	r := &relay{}
	r.onEvents = func(*protocol.EventBatch, *protocol.EventReply) (fate error) {
		if len(churn.fates) > 0 {
			fate, churn.fates = churn.fates[0], churn.fates[1:]
		}
		return fate
	}
	l := newLink(t, r, w)
	stop := lead(t, l)
	latest, ends := map[protocol.Ref]protocol.State{}, map[protocol.Ref]protocol.State{}
	for _, s := range churn.seen {
		l.Observe(s.event)
		if _, ended := ends[s.event.Ref]; !ended {
			if s.event.State.Terminal() {
				ends[s.event.Ref] = s.event.State
			} else {
				latest[s.event.Ref] = s.event.State
			}
		}
		time.Sleep(s.pause)
	}
	time.Sleep(time.Hour)
	if err := stop(); err != nil {
		return err
	}
	for ref, want := range ends {
		if got := r.folded(ref).End; got == nil || got.State != want {
			return fmt.Errorf("%s: the relay has the end %+v, want %s", ref, got, want)
		}
		delete(latest, ref)
	}
	for ref, want := range latest {
		if got := r.folded(ref).Latest; got == nil || got.State != want {
			return fmt.Errorf("%s: the relay has %+v, want %s", ref, got, want)
		}
	}
	return nil
}

func TestSameObservationIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.held = []protocol.Ref{ref("a")}
		r := &relay{}
		l := newLink(t, r, w)
		stop := lead(t, l)
		for range 50 {
			l.Observe(event("a", protocol.Running))
			time.Sleep(5 * time.Second)
		}
		_ = stop()
		if len(r.events) != 1 {
			t.Errorf("told %d times", len(r.events))
		}
	})
}

// The answer for an observation says nothing of the one that came meanwhile.
func TestObservedWhileTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.held = []protocol.Ref{ref("a")}
		r := &relay{}
		l := newLink(t, r, w)
		r.onEvents = func(batch *protocol.EventBatch, _ *protocol.EventReply) error {
			if batch.Events[0].State == protocol.Running {
				l.Observe(event("a", protocol.Completed))
			}
			return nil
		}
		l.Observe(event("a", protocol.Running))
		stop := lead(t, l)
		time.Sleep(time.Second)
		_ = stop()
		if end := r.folded(ref("a")).End; end == nil || end.State != protocol.Completed {
			t.Errorf("the relay has the end %+v", end)
		}
	})
}

func TestUnknownAttemptIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.held = []protocol.Ref{ref("a")}
		r := &relay{onEvents: func(_ *protocol.EventBatch, reply *protocol.EventReply) error {
			reply.Results[0].Outcome = protocol.Unknown
			return nil
		}}
		l := newLink(t, r, w)
		stop := lead(t, l)
		for _, state := range []protocol.State{protocol.Preparing, protocol.Running, protocol.Completed} {
			l.Observe(event("a", state))
			time.Sleep(time.Minute)
		}
		_ = stop()
		if len(r.events) != 1 || len(w.folded) != 0 {
			t.Errorf("told %d times, folded %v", len(r.events), w.folded)
		}
	})
}

// An event that the relay never accepts must not hold up the others.
func TestPoisonedEventIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{onEvents: func(batch *protocol.EventBatch, _ *protocol.EventReply) error {
			for _, e := range batch.Events {
				if e.Job == "poison" {
					return &protocol.Refusal{Message: "cannot read this"}
				}
			}
			return nil
		}}
		l := newLink(t, r, w)
		l.Observe(event("poison", protocol.Failed))
		for i := range 120 {
			l.Observe(event(fmt.Sprintf("job%d", i), protocol.Completed))
		}
		stop := lead(t, l)
		time.Sleep(5 * time.Minute)
		if len(w.folded) != 120 || l.Status().Waiting != 1 {
			t.Errorf("%d folded, %d waiting; want 120 and the poisoned one", len(w.folded), l.Status().Waiting)
		}
		_ = stop()
	})
}

// Messages of other programs may be long and need escaping: a batch of them
// does not fit into one message.
func TestLongReasonsFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		l := newLink(t, r, w)
		for i := range 50 {
			e := event(fmt.Sprintf("job%d", i), protocol.Failed)
			e.Reason = &protocol.Reason{Code: protocol.ExitCode, Message: strings.Repeat("\x01\xff", 4096)}
			if i%2 == 0 { // not cut, but longer once it is valid
				e.Reason.Message = strings.Repeat("\xff", protocol.MaxReason)
			}
			l.Observe(e)
		}
		stop := lead(t, l)
		time.Sleep(time.Minute)
		_ = stop()
		if len(w.folded) != 50 {
			t.Errorf("%d of 50 ends came through", len(w.folded))
		}
	})
}

// While an end waits to be told, the relay may still want the attempt started,
// cancelled or looked for.
func TestWaitingEndIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{onEvents: func(*protocol.EventBatch, *protocol.EventReply) error { return errors.New("lost") }}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			reply.Cancels = []protocol.Cancel{{Ref: ref("a")}}
			reply.Missing = []protocol.Missing{{Ref: ref("a")}}
			return grants(start("a"), start("b"))(n, req, reply)
		}
		l := newLink(t, r, w)
		l.Observe(event("a", protocol.Failed))
		stop := lead(t, l)
		time.Sleep(time.Second)
		_ = stop()
		if diff := cmp.Diff([]protocol.Ref{ref("a")}, r.sent()[0].Held); diff != "" {
			t.Errorf("held: %s", diff)
		}
		for _, started := range w.started {
			if started == ref("a") {
				t.Error("an ended attempt was started again")
			}
		}
		if len(w.started) == 0 || len(w.cancelled)+len(w.resolved) > 0 {
			t.Errorf("started %v, cancelled %v, resolved %v", w.started, w.cancelled, w.resolved)
		}
	})
}

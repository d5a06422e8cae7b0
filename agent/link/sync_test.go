package link

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

// grants answers every sync with the starts.
func grants(starts ...protocol.Start) func(int, *protocol.Sync, *protocol.SyncReply) error {
	return func(_ int, _ *protocol.Sync, reply *protocol.SyncReply) error {
		reply.Computes, reply.Starts = []protocol.Compute{gpu}, starts
		return nil
	}
}

func TestLostAnswerIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		grant := grants(start("a"))
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			if n < 3 {
				return errLost
			}
			return grant(n, req, reply)
		}
		l := newLink(t, r, w)
		stop := lead(t, l)
		w.until(t, "the start", func() bool { return len(w.started) > 0 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		nonces := map[string]bool{}
		for _, s := range r.sent() {
			nonces[s.Nonce] = true
			if s.Session != r.sent()[0].Session {
				t.Error("the session changed while leading")
			}
		}
		if len(nonces) != len(r.sent()) {
			t.Errorf("%d nonces in %d syncs", len(nonces), len(r.sent()))
		}
	})
}

func TestAnswerToAnotherSyncIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			_ = grants(start(fmt.Sprintf("job%d", n)))(n, req, reply)
			if n == 0 {
				reply.Nonce = "an older sync's nonce"
			}
			return nil
		}
		stop := lead(t, newLink(t, r, w))
		w.until(t, "a start", func() bool { return len(w.started) > 0 })
		_ = stop()
		if w.started[0] != ref("job1") {
			t.Errorf("started %v, job0 came under a stale nonce", w.started)
		}
	})
}

func TestStartPastItsDeadlineIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		var sent time.Time // in a bubble nothing is under way for long
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			if sent = time.Now(); n == 0 { // as if the agent was stopped for a while
				time.Sleep(protocol.StartDeadline)
			}
			return grants(start(fmt.Sprintf("job%d", n)))(n, req, reply)
		}
		stop := lead(t, newLink(t, r, w))
		w.until(t, "a start", func() bool { return len(w.started) > 0 })
		_ = stop()
		if w.started[0] != ref("job1") {
			t.Fatalf("started %v, job0 came too late", w.started)
		}
		if want := sent.Add(protocol.StartDeadline); !w.deadlines[0].Equal(want) {
			t.Errorf("deadline %v, want %v after the sync was sent", w.deadlines[0], protocol.StartDeadline)
		}
	})
}

func TestSyncsWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		stop := lead(t, newLink(t, r, newWorkloads()))
		time.Sleep(10 * protocol.SyncInterval)
		if n := len(r.sent()); n < 10 || n > 13 {
			t.Errorf("%d syncs in 10 intervals", n)
		}
		_ = stop()
	})
}

func TestWakesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		l := newLink(t, r, newWorkloads())
		stop := lead(t, l)
		time.Sleep(time.Second)
		before := len(r.sent())
		for range 100 {
			r.nudge()
			l.Wake()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if n := len(r.sent()) - before; n != 2 {
			t.Errorf("%d syncs for a burst of wakes, want one at once and one for the rest", n)
		}
		_ = stop()
	})
}

func TestRefusals(t *testing.T) {
	t.Run("for now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkloads()
			r := &relay{}
			r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
				if n < 20 {
					return &protocol.Refusal{Message: "starting", Temporary: true}
				}
				return grants(start("a"))(n, req, reply)
			}
			l := newLink(t, r, w)
			stop := lead(t, l)
			time.Sleep(time.Second)
			if got := l.Status().LastError; !strings.Contains(got, "starting") {
				t.Errorf("status says %q", got)
			}
			time.Sleep(20 * time.Minute)
			if len(w.started) == 0 {
				t.Error("gave up")
			}
			if got := l.Status().LastError; got != "" {
				t.Errorf("status still says %q", got)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &relay{onSync: func(int, *protocol.Sync, *protocol.SyncReply) error {
				return &protocol.Refusal{Message: "another agent leads"}
			}}
			err := newLink(t, r, newWorkloads()).Lead(t.Context())
			if _, ok := errors.AsType[*protocol.Refusal](err); !ok {
				t.Errorf("Lead returned %v, want the refusal", err)
			}
		})
	})
}

func TestNewSessionTellsTheHighestTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{term: 6, syncs: []*protocol.Sync{{}}}
		l := newLink(t, r, newWorkloads())
		for range 2 {
			stop := lead(t, l)
			time.Sleep(time.Second)
			_ = stop()
		}
		syncs := r.sent()
		first, last := syncs[1], syncs[len(syncs)-1]
		if first.Session == last.Session {
			t.Error("two times of leading shared a session")
		}
		if first.Term != 0 || last.Term != 7 || l.Status().Term != 8 {
			t.Errorf("terms told %d and %d, reached %d; want 0, 7, 8", first.Term, last.Term, l.Status().Term)
		}
	})
}

// A term that went back would make news look older than what was said before.
func TestTermThatWentBackIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			if n > 0 && n < 5 {
				reply.Term = 3
			} else {
				reply.Term = 7
			}
			return grants(start(fmt.Sprintf("job%d", n)))(n, req, reply)
		}
		l := newLink(t, r, w)
		stop := lead(t, l)
		time.Sleep(time.Hour)
		_ = stop()
		for _, started := range w.started {
			if started == ref("job1") {
				t.Error("acted on an answer under an older term")
			}
		}
		if l.Status().Term != 7 || len(w.started) < 2 {
			t.Errorf("term %d, %d starts", l.Status().Term, len(w.started))
		}
	})
}

func TestFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		for i := range protocol.MaxHeld {
			w.finished = append(w.finished, ref(fmt.Sprintf("done%d", i)))
		}
		w.held = []protocol.Ref{ref("alive")}
		var held []protocol.Ref
		folded := false
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			reply.NeedFull = !folded
			switch {
			case req.Full && n == 2:
				return errLost // a page gets lost: all are sent again
			case req.Full && req.Last:
				held = append(held, req.Held...)
				reply.NeedFull, folded = false, true
			case req.Full && n > 2:
				held = append(held, req.Held...)
			}
			return nil
		}
		stop := lead(t, newLink(t, r, w))
		time.Sleep(time.Minute)
		_ = stop()
		if len(held) != protocol.MaxHeld+1 {
			t.Errorf("the full sync listed %d attempts, want %d", len(held), protocol.MaxHeld+1)
		}
		if w.resends != 1 {
			t.Errorf("%d resends, want 1", w.resends)
		}
		last := r.sent()[len(r.sent())-1]
		if diff := cmp.Diff([]protocol.Ref{ref("alive")}, last.Held); last.Full || diff != "" {
			t.Errorf("after the full sync (full %v): %s", last.Full, diff)
		}
	})
}

func TestNothingIsTakenWhileOutOfStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.problem = errors.New("waiting for the Kubernetes API at 10.0.0.1")
		full := false
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			_ = grants(start("a"))(n, req, reply)
			reply.NeedFull = !full
			full = full || req.Full
			reply.Cancels = []protocol.Cancel{{Ref: ref("b")}}
			reply.Missing = []protocol.Missing{{Ref: ref("c")}}
			return nil
		}
		l := newLink(t, r, w)
		stop := lead(t, l)
		time.Sleep(time.Minute)
		for _, s := range r.sent() {
			if s.Full || len(s.Room) > 0 || len(s.Problems) != 1 {
				t.Fatalf("a sync out of step was full (%v), offered room %v, told problems %q", s.Full, s.Room, s.Problems)
			}
		}
		if len(w.started)+len(w.cancelled)+len(w.resolved) > 0 {
			t.Error("acted on answers while out of step")
		}
		if l.Status().Problem == "" {
			t.Error("the status does not say what is waited for")
		}
		w.do(func() { w.problem = nil })
		l.Wake()
		time.Sleep(time.Second)
		if len(w.started) == 0 || len(w.cancelled) == 0 || len(w.resolved) == 0 || !full {
			t.Error("did not go on after the recovery")
		}
		_ = stop()
	})
}

// TestRefusing: a cluster that refuses all work says so to the relay and takes
// none, but what runs is still cancelled and resolved.
func TestRefusing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.refusing = errors.New("the policy is broken")
		r := &relay{}
		r.onSync = func(_ int, req *protocol.Sync, reply *protocol.SyncReply) error {
			reply.Computes = []protocol.Compute{gpu}
			reply.Cancels = []protocol.Cancel{{Ref: ref("b")}}
			return nil
		}
		l := newLink(t, r, w)
		stop := lead(t, l)
		time.Sleep(time.Minute)
		for _, s := range r.sent() {
			if len(s.Room) > 0 || len(s.Problems) != 1 || s.Problems[0] != "the policy is broken" {
				t.Fatalf("a sync offers room %v and tells problems %q", s.Room, s.Problems)
			}
		}
		if len(w.cancelled) == 0 {
			t.Error("cancels wait, too")
		}
		if l.Status().Refusing != "the policy is broken" {
			t.Errorf("the status is %+v", l.Status())
		}
		w.do(func() { w.refusing = nil })
		time.Sleep(unsyncedInterval + time.Second) // nothing else tells that it is mended
		if last := r.sent()[len(r.sent())-1]; len(last.Room) == 0 || len(last.Problems) > 0 || l.Status().Refusing != "" {
			t.Errorf("afterwards: room %v, problems %q, status %+v", last.Room, last.Problems, l.Status())
		}
		_ = stop()
	})
}

func TestRoomLeavesASyncListable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		w.free = 500
		for i := range protocol.MaxHeld - 7 {
			w.held = append(w.held, ref(fmt.Sprintf("job%d", i)))
		}
		r := &relay{onSync: func(_ int, _ *protocol.Sync, reply *protocol.SyncReply) error {
			reply.Computes = []protocol.Compute{gpu, {Name: "cpu", Namespace: "train"}}
			return nil
		}}
		l := newLink(t, r, w)
		stop := lead(t, l)
		time.Sleep(time.Second)
		last := r.sent()[len(r.sent())-1]
		if diff := cmp.Diff([]protocol.Room{{Compute: "gpu", Free: 7}, {Compute: "cpu"}}, last.Room); diff != "" {
			t.Error(diff)
		}
		for i := range 20 {
			w.do(func() { w.held = append(w.held, ref(fmt.Sprintf("more%d", i))) })
		}
		l.Wake()
		time.Sleep(time.Second)
		last = r.sent()[len(r.sent())-1]
		if len(last.Held) != protocol.MaxHeld || len(last.Room) != 0 || len(last.Problems) != 1 {
			t.Errorf("over the limit: %d held, room %v, problems %q", len(last.Held), last.Room, last.Problems)
		}
		_ = stop()
	})
}

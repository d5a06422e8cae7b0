package link

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestBadStartFailsItsOwnAttemptOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		bad := start("bad")
		bad.Job.Image = ""
		elsewhere := start("elsewhere")
		elsewhere.Job.Compute = "gone"
		nameless := start("../../etc")
		r := &relay{onSync: grants(nameless, bad, elsewhere, start("good"))}
		stop := lead(t, newLink(t, r, w))
		time.Sleep(time.Second)
		_ = stop()
		if w.started[0] != ref("good") {
			t.Errorf("started %v", w.started)
		}
		for job, code := range map[string]protocol.ReasonCode{"bad": protocol.Undecodable, "elsewhere": protocol.ComputeDeleted} {
			end := r.folded(ref(job)).End
			if end == nil || end.State != protocol.Failed || end.Reason.Code != code {
				t.Errorf("%s ended %+v, want Failed for %s", job, end, code)
			}
		}
	})
}

// What the relay wants ended or found comes with the compute that it was
// granted to: the cluster has to know where to look.
func TestCancelsCarryTheirCompute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			reply.Computes = []protocol.Compute{gpu}
			reply.Cancels = []protocol.Cancel{{Ref: ref("a"), Compute: "gpu"}, {Ref: ref("b"), Ended: true}}
			reply.Missing = []protocol.Missing{{Ref: ref("c"), Compute: "gpu"}}
			return nil
		}
		stop := lead(t, newLink(t, r, w))
		w.until(t, "a search", func() bool { return len(w.resolved) > 0 })
		_ = stop()
		if diff := cmp.Diff([]protocol.Compute{gpu, {}, gpu}, w.at[:3]); diff != "" {
			t.Error(diff)
		}
	})
}

// Names may be long: a page holds what fits into a message, not only what may
// be listed by number.
func TestLongNamesFitIntoTheSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkloads()
		for i := range protocol.MaxHeld {
			w.finished = append(w.finished, protocol.Ref{Job: fmt.Sprintf("%0*d", protocol.MaxName, i), Attempt: protocol.MaxAttempts})
		}
		seen := map[protocol.Ref]bool{}
		r := &relay{}
		r.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
			for _, ref := range req.Held {
				seen[ref] = true
			}
			reply.Computes = []protocol.Compute{gpu}
			reply.NeedFull = !req.Last || n == 0
			if data, err := protocol.Encode(req); err != nil || len(data) > protocol.MaxMessage {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			return nil
		}
		l := newLink(t, r, w)
		stop := lead(t, l)
		time.Sleep(time.Minute)
		if len(seen) != protocol.MaxHeld {
			t.Errorf("the full sync listed %d attempts, want %d: %s", len(seen), protocol.MaxHeld, l.Status().LastError)
		}
		w.do(func() { w.held, w.free = w.finished[:500], 500 })
		l.Wake()
		time.Sleep(time.Second)
		syncs := r.sent()
		if last := syncs[len(syncs)-1]; len(last.Room) != 1 || last.Room[0].Free == 0 || len(page(w.finished)) < 500+last.Room[0].Free {
			t.Errorf("room %v beside %d attempts, where %d can be listed", last.Room, len(last.Held), len(page(w.finished)))
		}
		w.do(func() { w.held = w.finished })
		l.Wake()
		time.Sleep(time.Second)
		syncs = r.sent()
		if last := syncs[len(syncs)-1]; len(last.Problems) != 1 || len(last.Room) != 0 {
			t.Errorf("problems %q, room %v", last.Problems, last.Room)
		}
		_ = stop()
	})
}

package link

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestCheckIsTold: a self-check is in the syncs until one with it is answered,
// and again where the relay has forgotten it.
func TestCheckIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var newest *protocol.Check
		r := &relay{}
		r.onSync = func(n int, _ *protocol.Sync, reply *protocol.SyncReply) error {
			if n == 1 {
				return errLost
			}
			reply.NeedFull = n == 4
			return nil
		}
		l := newLink(t, r, newWorkloads())
		l.check = func() *protocol.Check { return newest }
		defer lead(t, l)()
		synctest.Wait()
		newest = &protocol.Check{Time: time.Unix(1, 0).UTC()}
		for len(r.sent()) < 7 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		for n, want := range []bool{false, true, true, false, false, true, false} {
			if got := r.sent()[n].Check != nil; got != want {
				t.Errorf("sync %d has a check: %v, want %v", n, got, want)
			}
		}
	})
}

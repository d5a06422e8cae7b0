package relay

import (
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestWhatWaitsNamesTheProblem: while a cluster takes no work, its jobs wait
// and say why, whether or not they were granted before.
func TestWhatWaitsNamesTheProblem(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "onprem", "one", addCluster(t, r, "onprem"))
	a.join()
	submit(t, r, sampleJob("granted", "onprem"))
	wantStarts(t, a.room(1), attempt("granted", 1))
	submit(t, r, sampleJob("queued", "onprem"))
	reply := a.sync(protocol.Sync{Problems: []string{"the policy is broken"}, Room: []protocol.Room{{Compute: "onprem", Free: 4}}})
	wantStarts(t, reply)
	for _, name := range []string{"granted", "queued"} {
		job := wantState(t, r, name, protocol.Queued, protocol.WaitingForCluster)
		if want := "cluster onprem takes no work now: the policy is broken"; !strings.Contains(job.Reason.Message, want) {
			t.Errorf("%s: the reason is %q, want %q", name, job.Reason.Message, want)
		}
	}
	wantStarts(t, a.room(4), attempt("granted", 1), attempt("queued", 1))
}

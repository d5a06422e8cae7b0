package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestRestart: records and queue survive the relay; nothing is granted before
// the cluster told all that it holds.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.join()
	submit(t, r, sampleJob("running", "c"))
	wantStarts(t, a.room(1), attempt("running", 1))
	a.observe(attempt("running", 1), protocol.Running)
	for i := range 5 {
		submit(t, r, sampleJob(fmt.Sprint("queued-", i), "c"))
	}
	a.conn.Close()
	r.stop()

	r = start(t, Options{Data: data})
	wantState(t, r, "running", protocol.Running, "")
	b := lead(t, r, "c", "one", key)
	b.term, b.seq, b.syncs = a.term, a.seq, a.syncs
	held := attempt("running", 1)
	reply := b.room(1, held)
	if !reply.NeedFull || len(reply.Starts)+len(reply.Cancels)+len(reply.Missing) != 0 {
		t.Fatalf("after a restart: %+v", reply)
	}
	if reply := b.sync(protocol.Sync{Full: true, Held: []protocol.Ref{held}}); reply.More || len(reply.Starts) != 0 {
		t.Fatalf("after the first page: %+v", reply)
	}
	if reply := b.room(1, held); !reply.NeedFull {
		t.Fatal("something was granted between the pages")
	}
	if reply := b.sync(protocol.Sync{Full: true, Last: true, Held: []protocol.Ref{held}}); !reply.More || reply.NeedFull {
		t.Fatalf("after the last page: %+v", reply)
	}
	wantStarts(t, b.room(2, held), attempt("queued-0", 1), attempt("queued-1", 1))
	if b.term != a.term {
		t.Errorf("term %d after the restart, want the session's %d", b.term, a.term)
	}
}

// TestPagesOfAnotherRelay: pages that an earlier relay answered do not count.
func TestPagesOfAnotherRelay(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.sync(protocol.Sync{Full: true})
	a.conn.Close()
	r.stop()

	r = start(t, Options{Data: data})
	b := lead(t, r, "c", "one", key)
	if reply := b.sync(protocol.Sync{Full: true, Last: true}); !reply.NeedFull {
		t.Error("the last page alone was enough for a relay that never saw the first")
	}
	b.join()
}

// TestRestoredBackup: what a cluster holds and the record does not know is
// adopted, not run twice.
func TestRestoredBackup(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	key := addCluster(t, r, "c")
	for _, name := range []string{"first", "second", "canceled", "queued"} {
		submit(t, r, sampleJob(name, "c"))
	}
	if _, err := r.Jobs().Cancel(t.Context(), "canceled", "user"); err != nil {
		t.Fatal(err)
	}
	a := lead(t, r, "c", "one", key)
	a.term = 41 // of the relay that the backup was taken of
	held := []protocol.Ref{attempt("first", 1), attempt("second", 2), attempt("canceled", 1), attempt("foreign", 1)}
	a.join(held...)
	if a.term <= 41 {
		t.Errorf("term %d is not above one that was in use", a.term)
	}
	wantState(t, r, "first", protocol.Queued, "")
	a.observe(attempt("second", 2), protocol.Running)
	wantState(t, r, "second", protocol.Running, "")
	reply := a.room(5, held...)
	wantStarts(t, reply, attempt("queued", 1))
	if diff := cmp.Diff([]protocol.Cancel{{Ref: attempt("canceled", 1), Ended: true}}, reply.Cancels); diff != "" {
		t.Errorf("a Job whose record was closed: %s", diff)
	}
	cluster, err := r.Jobs().Cluster(t.Context(), "c")
	if err != nil || cluster.UnknownJobs != 1 {
		t.Errorf("%d unknown jobs, want 1 (%v)", cluster.UnknownJobs, err)
	}
}

func TestTwoSessions(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	key := addCluster(t, r, "c")
	old := lead(t, r, "c", "old", key)
	old.join()
	submit(t, r, sampleJob("job", "c"))
	wantStarts(t, old.room(1), attempt("job", 1))
	next := lead(t, r, "c", "new", key)
	next.join()
	if next.term <= old.term {
		t.Errorf("terms %d and %d", old.term, next.term)
	}
	_, err := old.trySync(protocol.Sync{Room: []protocol.Room{{Compute: "c", Free: 1}}})
	if refusal := refused(t, err); refusal.Temporary {
		t.Errorf("the refusal of a superseded session is temporary: %v", refusal)
	}
	wantStarts(t, next.room(1), attempt("job", 1))
	// What the old one still has to say is older than the new one's word.
	next.observe(attempt("job", 1), protocol.Running)
	old.observe(attempt("job", 1), protocol.Preparing)
	wantState(t, r, "job", protocol.Running, "")
}

// TestCrash: what was acknowledged is in the files, without a clean stop.
func TestCrash(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("running", "c"))
	wantStarts(t, a.room(1), attempt("running", 1))
	a.observe(attempt("running", 1), protocol.Running)
	submit(t, r, sampleJob("queued", "c"))

	crashed := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(crashed, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	r = start(t, Options{Data: crashed})
	wantState(t, r, "running", protocol.Running, "")
	wantState(t, r, "queued", protocol.Queued, protocol.WaitingForCluster)
}

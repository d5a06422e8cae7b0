package relay

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPathOfAJob is the whole path: submit, sync, start, events, end.
func TestPathOfAJob(t *testing.T) { everyBroker(t, testPathOfAJob) }

func testPathOfAJob(t *testing.T, opts Options) {
	r := start(t, opts)
	key := addCluster(t, r, "onprem")
	submit(t, r, sampleJob("iris", "onprem"))
	wantState(t, r, "iris", protocol.Queued, protocol.WaitingForCluster)

	a := lead(t, r, "onprem", "one", key)
	nudges, err := a.conn.SubscribeSync(protocol.NudgeSubject("onprem", nudgeWord))
	if err != nil {
		t.Fatal(err)
	}
	a.join()
	wantState(t, r, "iris", protocol.Queued, protocol.WaitingForRoom)
	wantStarts(t, a.room(0))
	reply := a.room(4)
	wantStarts(t, reply, attempt("iris", 1))
	if diff := cmp.Diff(sampleJob("iris", "onprem"), reply.Starts[0].Job); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]protocol.Compute{{Name: "onprem", Namespace: "train"}}, reply.Computes, cmpopts.IgnoreFields(protocol.Compute{}, "Revision")); diff != "" {
		t.Error(diff)
	}

	ref := attempt("iris", 1)
	a.observe(ref, protocol.Preparing, protocol.Running)
	if job := wantState(t, r, "iris", protocol.Running, ""); job.StartTime == nil || job.Cluster != "onprem" || job.Attempt != 1 {
		t.Errorf("of the running job: %+v", job)
	}
	zero := 0
	end := a.event(ref, protocol.Completed)
	end.ExitCode, end.Node = &zero, "node-1"
	a.tell(end)
	job := wantState(t, r, "iris", protocol.Completed, "")
	if job.EndTime == nil || job.ExitCode == nil || *job.ExitCode != 0 || job.Node != "node-1" {
		t.Errorf("of the ended job: %+v", job)
	}
	wantStarts(t, a.room(4))

	submit(t, r, sampleJob("again", "onprem"))
	if _, err := nudges.NextMsg(10 * time.Second); err != nil {
		t.Errorf("no nudge for a new job: %v", err)
	}
}

func TestPriorityThenAge(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	for i, priority := range []int{0, 0, 7, 3} {
		job := sampleJob(fmt.Sprint("job-", i), "c")
		job.Priority = priority
		submit(t, r, job)
	}
	wantStarts(t, a.room(2), attempt("job-2", 1), attempt("job-3", 1))
	wantStarts(t, a.room(1, attempt("job-2", 1), attempt("job-3", 1)), attempt("job-0", 1))
}

func TestSubmitIsIdempotent(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	addCluster(t, r, "c")
	job := sampleJob("same", "c")
	first := submit(t, r, job)
	second, created, err := r.Jobs().Submit(t.Context(), job, "somebody else")
	if err != nil || created {
		t.Fatalf("the same job again: created %v, %v", created, err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	job.Command = "something else"
	if _, _, err := r.Jobs().Submit(t.Context(), job, "user"); !errors.Is(err, records.ErrConflict) {
		t.Errorf("another job of the name: %v", err)
	}
	nowhere := sampleJob("lost", "nowhere")
	if _, _, err := r.Jobs().Submit(t.Context(), nowhere, "user"); !errors.Is(err, records.ErrInvalid) {
		t.Errorf("a job for a compute that is not there: %v", err)
	}
}

// TestLostAnswer: a start whose answer got lost is granted again, as the same
// attempt, until it is held or reported.
func TestLostAnswer(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("first", "c"))
	submit(t, r, sampleJob("second", "c"))
	first, second := attempt("first", 1), attempt("second", 1)
	wantStarts(t, a.room(1), first)
	wantStarts(t, a.room(1), first) // the room is taken by what was granted
	wantStarts(t, a.room(2), first, second)
	wantStarts(t, a.room(2, first), second)
	a.observe(second, protocol.Running)
	wantStarts(t, a.room(2, first))
}

func TestMissing(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("gone", "c"))
	gone := attempt("gone", 1)
	wantStarts(t, a.room(1), gone)
	a.observe(gone, protocol.Running)
	if reply := a.room(1, gone); len(reply.Missing) != 0 {
		t.Errorf("missing %v, all is held", reply.Missing)
	}
	// An agent that does not see its cluster is not asked for what it lacks.
	if reply := a.sync(protocol.Sync{Problems: []string{"waiting for the API server"}}); len(reply.Missing) != 0 {
		t.Errorf("missing %v of an agent that sees nothing", reply.Missing)
	}
	reply := a.room(1)
	if len(reply.Missing) != 1 || reply.Missing[0].Ref != gone || reply.Missing[0].Latest.State != protocol.Running {
		t.Fatalf("missing %+v, want %s", reply.Missing, gone)
	}
	failed := a.event(gone, protocol.Failed)
	failed.Reason = protocol.NewReason(protocol.JobDeleted, "somebody deleted it")
	a.tell(failed)
	wantState(t, r, "gone", protocol.Failed, protocol.JobDeleted)
	if reply := a.room(1); len(reply.Missing) != 0 {
		t.Errorf("missing %v, which ended", reply.Missing)
	}
}

func TestCancel(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	cancel := func(name string) {
		t.Helper()
		if _, err := r.Jobs().Cancel(t.Context(), name, "user"); err != nil {
			t.Fatal(err)
		}
	}

	// Before the claim it is the end.
	submit(t, r, sampleJob("queued", "c"))
	cancel("queued")
	wantState(t, r, "queued", protocol.Canceled, protocol.UserCanceled)
	wantStarts(t, a.room(5))

	// After it, the cluster is asked until it says so.
	submit(t, r, sampleJob("claimed", "c"))
	claimed := attempt("claimed", 1)
	wantStarts(t, a.room(5), claimed)
	a.observe(claimed, protocol.Running)
	cancel("claimed")
	cancel("claimed")
	wantState(t, r, "claimed", protocol.CancelRequested, protocol.UserCanceled)
	for range 2 {
		reply := a.room(5, claimed)
		if len(reply.Cancels) != 1 || reply.Cancels[0].Ref != claimed || reply.Cancels[0].Ended {
			t.Fatalf("cancels %+v, want %s", reply.Cancels, claimed)
		}
	}
	a.observe(claimed, protocol.Finalizing)
	wantState(t, r, "claimed", protocol.CancelRequested, protocol.UserCanceled)
	a.observe(claimed, protocol.Canceled)
	wantState(t, r, "claimed", protocol.Canceled, "")

	// Its Job lives on in the cluster: a leftover.
	if reply := a.room(5, claimed); len(reply.Cancels) != 1 || !reply.Cancels[0].Ended {
		t.Errorf("cancels %+v, want the leftover %s", reply.Cancels, claimed)
	}

	// Granted, the answer lost, then canceled: no start any more.
	submit(t, r, sampleJob("lost", "c"))
	wantStarts(t, a.room(5), attempt("lost", 1))
	cancel("lost")
	reply := a.room(5)
	wantStarts(t, reply)
	if len(reply.Cancels) != 1 || reply.Cancels[0].Ref != attempt("lost", 1) {
		t.Errorf("cancels %+v", reply.Cancels)
	}

	// One that ended by itself stays as it ended.
	submit(t, r, sampleJob("done", "c"))
	wantStarts(t, a.room(5), attempt("done", 1))
	a.observe(attempt("done", 1), protocol.Completed)
	cancel("done")
	wantState(t, r, "done", protocol.Completed, "")
	if reply := a.sync(protocol.Sync{Full: true, Last: true, Held: []protocol.Ref{attempt("done", 1)}}); len(reply.Cancels) != 0 {
		t.Errorf("cancels %+v; a finished Job that the cluster keeps is no leftover", reply.Cancels)
	}
	// An unfinished one is.
	want := []protocol.Ref{attempt("done", 1), attempt("lost", 1)}
	if reply := a.room(5, attempt("done", 1)); len(reply.Cancels) != 2 ||
		reply.Cancels[0].Ref != want[0] || !reply.Cancels[0].Ended || reply.Cancels[1].Ref != want[1] {
		t.Errorf("cancels %+v, want the leftover and then the other of %v", reply.Cancels, want)
	}
}

func TestRetry(t *testing.T) {
	r := start(t, Options{Data: t.TempDir(), MaxAttempts: 2})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("unlucky", "c"))
	for n := 1; n <= 2; n++ {
		ref := attempt("unlucky", n)
		wantStarts(t, a.room(1), ref)
		a.observe(ref, protocol.Running)
		lost := a.event(ref, protocol.Failed)
		lost.Retry, lost.Reason = true, protocol.NewReason(protocol.NodeLost, "node-1")
		a.tell(lost)
		if n == 1 {
			job := wantState(t, r, "unlucky", protocol.Queued, protocol.WaitingForRoom)
			if !strings.Contains(job.Reason.Message, "NodeLost") {
				t.Errorf("the reason %q does not say why it waits again", job.Reason)
			}
		}
	}
	wantState(t, r, "unlucky", protocol.Failed, protocol.NodeLost)
	wantStarts(t, a.room(1))
}

// TestEndStands: an end never changes, whatever else is said.
func TestEndStands(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("ended", "c"))
	ref := attempt("ended", 1)
	wantStarts(t, a.room(1), ref)
	running := a.event(ref, protocol.Running)
	end := a.event(ref, protocol.Completed)
	contradiction := a.event(ref, protocol.Failed)
	late := a.event(ref, protocol.Running)
	for _, e := range []protocol.Event{end, running, contradiction, late, end} {
		if results := a.tell(e); results[0].Outcome != protocol.Folded {
			t.Errorf("%s: %s", e.State, results[0].Outcome)
		}
		wantState(t, r, "ended", protocol.Completed, "")
	}
	if results := a.tell(a.event(attempt("ended", 2), protocol.Running), a.event(attempt("nobody", 1), protocol.Running)); results[0].Outcome != protocol.Unknown || results[1].Outcome != protocol.Unknown {
		t.Errorf("of attempts that were never granted: %v", results)
	}
}

// TestConcurrentSyncsClaimOnce: many syncs at once grant each job once.
func TestConcurrentSyncsClaimOnce(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	const clusters, jobs = 4, 24
	var agents []*agent
	for i := range clusters {
		name := fmt.Sprint("c", i)
		a := lead(t, r, name, "one", addCluster(t, r, name))
		a.join()
		agents = append(agents, a)
		for j := range jobs {
			submit(t, r, sampleJob(fmt.Sprintf("job-%d-%d", i, j), name))
		}
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		granted = map[protocol.Ref]int{}
	)
	for _, a := range agents {
		for range 8 {
			b := *a // the same session, syncing at the same time
			wg.Go(func() {
				for range 3 {
					reply, err := b.trySync(protocol.Sync{Room: []protocol.Room{{Compute: a.cluster, Free: 100}}, Problems: nil})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, start := range reply.Starts {
						granted[start.Ref()]++
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if len(granted) != clusters*jobs {
		t.Errorf("%d attempts were granted, want %d", len(granted), clusters*jobs)
	}
	for ref := range granted {
		if ref.Attempt != 1 {
			t.Errorf("%s was granted; the first attempt has not ended", ref)
		}
	}
}

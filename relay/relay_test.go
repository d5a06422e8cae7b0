package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/broker"
	"github.com/trainrelay/trainrelay/relay/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPathOfAJob is the whole path: submit, sync, start, events, end.
func TestPathOfAJob(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	key := addCluster(t, r, "onprem")
	submit(t, r, sampleJob("iris", "onprem"))
	wantState(t, r, "iris", protocol.Queued, protocol.WaitingForCluster)

	a := lead(t, r, "onprem", "one", key)
	nudges, err := a.conn.SubscribeSync(protocol.NudgeSubject("onprem"))
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
	if diff := cmp.Diff([]protocol.Compute{{Name: "onprem", Namespace: "train"}}, reply.Computes); diff != "" {
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
	if reply := a.room(5, attempt("done", 1)); len(reply.Cancels) != 1 {
		t.Errorf("cancels %+v; a finished Job that the cluster keeps is no leftover", reply.Cancels)
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

func TestDeadLetters(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	letters := []string{"no json", `{"v":1,"kind":"log","body":{}}`, `{"v":9,"kind":"sync","body":{}}`, strings.Repeat("x", protocol.MaxMessage+1)}
	for _, letter := range letters {
		m, err := a.conn.Request(protocol.UpSubject("c", protocol.VerbSync), []byte(letter), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if refusal := refused(t, protocol.Decode(m.Data, new(protocol.SyncReply))); refusal.Temporary || refusal.Message == "" {
			t.Errorf("refusal %+v", refusal)
		}
	}
	stream, err := r.Broker().JetStream().Stream(t.Context(), broker.DeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	for i, letter := range letters {
		m, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != letter || m.Header.Get("Reason") == "" || m.Header.Get("Subject") != "up.c.sync" {
			t.Errorf("dead letter %d: %v, %d bytes", i, m.Header, len(m.Data))
		}
	}
	a.join() // the relay lives on
}

// TestClustersAreApart: a cluster's key opens its own subjects only.
func TestClustersAreApart(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "a", "one", addCluster(t, r, "a"))
	b := lead(t, r, "b", "one", addCluster(t, r, "b"))
	a.join()
	b.join()
	submit(t, r, sampleJob("of-b", "b"))
	wantStarts(t, b.room(1), attempt("of-b", 1))

	denied := make(chan error, 16)
	a.conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	for _, subject := range []string{"up.b.sync", "up.b.event", "nudge.a", "nudge.b", "_INBOX_b.guess", "$JS.API.STREAM.INFO.KV_JOBS", "$KV.JOBS.of-b.status", "dead.x", "log.of-b.1.0", "$SYS.REQ.SERVER.PING"} {
		if err := a.conn.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publish to %s: %v", subject, err)
		}
	}
	for _, subject := range []string{"up.>", "up.b.*", "nudge.*", "nudge.b", "_INBOX_b.>", ">", "$SYS.>", "_R_.>"} {
		if _, err := a.conn.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe to %s: %v", subject, err)
		}
	}
	// Through its own subjects it says nothing of b's attempts either.
	if results := a.tell(a.event(attempt("of-b", 1), protocol.Failed)); results[0].Outcome != protocol.Unknown {
		t.Errorf("a's word on b's attempt: %s", results[0].Outcome)
	}
	if reply := a.sync(protocol.Sync{Room: []protocol.Room{{Compute: "b", Free: 5}}, Held: []protocol.Ref{attempt("of-b", 1)}}); len(reply.Starts)+len(reply.Cancels) != 0 {
		t.Errorf("a was answered %+v for b's compute", reply)
	}
	reply := new(protocol.LogReply)
	if err := ask(a, protocol.VerbLog, &protocol.LogChunk{Ref: attempt("of-b", 1), Data: []byte("x")}, reply); err != nil || !reply.Unknown {
		t.Errorf("a's output for b's attempt: %+v, %v", reply, err)
	}
	wantState(t, r, "of-b", protocol.Queued, "")
}

// connect tries to connect until the server says yes or no: a connection that
// it closes may break before its words are read.
func connect(url string, option nats.Option) error {
	for {
		conn, err := nats.Connect(url, option)
		if broken := new(net.OpError); errors.As(err, &broken) {
			continue
		}
		if err == nil {
			conn.Close()
		}
		return err
	}
}

func TestWhoMayConnect(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	url := strings.Replace(r.Broker().WebsocketURL(), "http", "ws", 1)
	stranger, unknown := newKey(t)
	key := addCluster(t, r, "c")
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]nats.Option{
		"anonymous":              nats.Name("x"),
		"password":               nats.UserInfo("relay", "relay"),
		"token":                  nats.Token("token"),
		"a stranger's key":       nats.Nkey(unknown, stranger.Sign),
		"a key without its seed": nats.Nkey(public, stranger.Sign),
	} {
		if err := connect(url, option); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}

	a := lead(t, r, "c", "one", key)
	a.join()
	closed := make(chan struct{})
	a.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if err := r.Jobs().DeleteCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the deleted cluster's connection is still open")
	}
	if err := connect(url, nats.Nkey(public, key.Sign)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the key of a deleted cluster: %v", err)
	}
	// With a new key, the cluster goes on with higher terms.
	_, public = newKey(t)
	if _, err := r.Jobs().AddCluster(t.Context(), "c", public, "admin"); err != nil {
		t.Error(err)
	}
}

// TestFrontStopsFirst: the rooms work until the front has stopped.
func TestFrontStopsFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(Options{Data: t.TempDir(), Front: func(ctx context.Context, r *Relay) error {
		cancel()
		<-ctx.Done()
		_, err := r.Jobs().Clusters(context.WithoutCancel(ctx))
		return errors.Join(err, r.Broker().Ready(context.WithoutCancel(ctx)))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	broken, err := New(Options{Data: t.TempDir(), Front: func(context.Context, *Relay) error { return errors.New("port taken") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "port taken") {
		t.Errorf("a front that fails: %v", err)
	}
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

// TestOutput: an agent's output is taken, once, and read by users.
func TestOutput(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	chunk := &protocol.LogChunk{Ref: attempt("job", 1), Data: []byte("hello\n"), EOF: true,
		To: protocol.LogPosition{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Lines: 1}}
	for i, taken := range []bool{true, false} {
		reply := new(protocol.LogReply)
		if err := ask(a, protocol.VerbLog, chunk, reply); err != nil || reply.Taken != taken || !reply.EOF {
			t.Errorf("sent %d times: %+v, %v", i+1, reply, err)
		}
	}
	for got, err := range r.Logs().Follow(t.Context(), "job", 0) {
		if err != nil || string(got.Text) != "hello\n" || !got.EOF {
			t.Errorf("%+v, %v", got, err)
		}
		break
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, Options{Data: t.TempDir(), Registerer: registry})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	for _, name := range []string{"one", "two", "three"} {
		submit(t, r, sampleJob(name, "c"))
	}
	wantStarts(t, a.room(1), attempt("one", 1))
	a.observe(attempt("one", 1), protocol.Running, protocol.Completed)
	a.tell(a.event(attempt("one", 1), protocol.Failed))
	if _, err := a.conn.Request("up.c.sync", []byte("junk"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"trainrelay_jobs Queued":           2,
		"trainrelay_jobs Completed":        1,
		"trainrelay_queued_jobs c":         2,
		"trainrelay_jobs_submitted_total":  3,
		"trainrelay_claims_total":          1,
		"trainrelay_events_total folded":   2,
		"trainrelay_events_total conflict": 1,
		"trainrelay_dead_letters_total":    1,
		"trainrelay_connected_clusters":    1,
		"trainrelay_starts_total new":      1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

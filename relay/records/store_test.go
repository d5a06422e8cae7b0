package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a NATS server on a folder until the test ends or stop is called.
func serve(t testing.TB, dir string, fsync bool) (js jetstream.JetStream, stop func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncAlways: fsync, JetStreamMaxStore: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	js, err = jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		conn.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	t.Cleanup(stop)
	return js, stop
}

// line is a queue without order, for stores whose order is not asked for.
type line struct {
	mu   sync.Mutex
	jobs map[string]Queued
}

func (l *line) Put(q Queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.jobs == nil {
		l.jobs = map[string]Queued{}
	}
	l.jobs[q.Name] = q
}

func (l *line) Remove(q Queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, q.Name)
}

func (l *line) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

// open runs a store until the test ends or stop is called.
func open(t testing.TB, js jetstream.JetStream, opts Options) (s *Store, stop func()) {
	t.Helper()
	opts.JetStream = js
	if opts.Queue == nil {
		opts.Queue = new(line)
	}
	opts.Log = zerolog.Nop()
	s, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-s.Loaded():
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	return s, stop
}

// newToken connects a cluster and returns the token, which names the signing
// key "key".
func newToken(t testing.TB, s *Store, cluster string, expires time.Time) protocol.JoinToken {
	t.Helper()
	token, err := protocol.NewJoinToken(protocol.RelayKey{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Connect(t.Context(), cluster, token.ID(), "key", expires, "admin"); err != nil {
		t.Fatal(err)
	}
	return token
}

// newRequest is an agent's request to join with fresh keys.
func newRequest(t testing.TB, token protocol.JoinToken) *protocol.Enrol {
	t.Helper()
	agent, err := testkit.NewAgent()
	if err != nil {
		t.Fatal(err)
	}
	request, err := agent.Request(token)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// joined connects a cluster, lets an agent join, and returns its public key.
func joined(t testing.TB, s *Store, cluster string) string {
	t.Helper()
	request := newRequest(t, newToken(t, s, cluster, time.Now().Add(time.Hour)))
	if name, key, err := s.Enrol(t.Context(), request); err != nil || name != cluster || key != "key" {
		t.Fatal(name, key, err)
	}
	return request.PublicKey
}

// withCompute joins a cluster "c" and makes a compute of the same name.
func withCompute(t testing.TB, s *Store) {
	t.Helper()
	joined(t, s, "c")
	if _, _, err := s.PutCompute(t.Context(), "c", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "c", Namespace: "train"}}, "admin"); err != nil {
		t.Fatal(err)
	}
}

func sample(name string) protocol.Job {
	return protocol.Job{Name: name, Command: "true", Image: "busybox", Compute: "c", Instances: 1}
}

func submit(t testing.TB, s *Store, job protocol.Job) {
	t.Helper()
	if _, _, err := s.Submit(t.Context(), job, "user"); err != nil {
		t.Fatal(err)
	}
}

// finish claims a job and ends it.
func finish(t testing.TB, s *Store, name string, state protocol.State) {
	t.Helper()
	if _, ok, err := s.Claim(t.Context(), "c", name); !ok || err != nil {
		t.Fatalf("claim %s: %v, %v", name, ok, err)
	}
	end := protocol.Event{Ref: protocol.Ref{Job: name, Attempt: 1}, Version: protocol.Version{Term: 1, Seq: 1}, State: state, Time: time.Now()}
	if _, err := s.Fold(t.Context(), "c", []protocol.Event{end}); err != nil {
		t.Fatal(err)
	}
}

// TestCrashBetweenWrites: a specification without status was never accepted;
// the name is free, for the same job and for another one.
func TestCrashBetweenWrites(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	for _, name := range []string{"same", "other"} {
		job := sample(name)
		spec, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.jobs.Put(t.Context(), specKey(name, job.Digest()), spec); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Job(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Fatalf("a job that was not accepted: %v", err)
		}
	}
	submit(t, s, sample("same"))
	changed := sample("other")
	changed.Command = "false"
	submit(t, s, changed)
	got, err := s.Spec(t.Context(), "other")
	if diff := cmp.Diff(changed, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestConcurrentSubmits: of different jobs under one name one is accepted,
// with its own specification.
func TestConcurrentSubmits(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	a, _ := open(t, js, Options{})
	b, _ := open(t, js, Options{})
	withCompute(t, a)
	e, err := b.plan.Get(t.Context(), computePrefix+"c") // what its watch will bring
	if err != nil {
		t.Fatal(err)
	}
	if err := b.applySetup(e); err != nil {
		t.Fatal(err)
	}
	const each = 6
	var wg sync.WaitGroup
	won := make(chan protocol.Job, 2*each)
	for i := range each {
		for _, s := range []*Store{a, b} {
			wg.Go(func() {
				job := sample("contested")
				job.Command = fmt.Sprint("true ", i)
				_, created, err := s.Submit(t.Context(), job, "user")
				if err != nil && !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
				if created {
					won <- job
				}
			})
		}
	}
	wg.Wait()
	close(won)
	winner := <-won
	if _, more := <-won; more {
		t.Error("two jobs were accepted under one name")
	}
	got, err := b.Spec(t.Context(), "contested")
	if diff := cmp.Diff(winner, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestTwoRelays: claims of two relays on one store are one claim, and each
// folds what the other granted.
func TestTwoRelays(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	a, _ := open(t, js, Options{})
	b, _ := open(t, js, Options{})
	withCompute(t, a)
	submit(t, a, sample("job"))
	ref := protocol.Ref{Job: "job", Attempt: 1}
	if _, ok, err := a.Claim(t.Context(), "c", "job"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	running := protocol.Event{Ref: ref, Version: protocol.Version{Term: 1, Seq: 1}, State: protocol.Running, Time: time.Now()}
	results, err := b.Fold(t.Context(), "c", []protocol.Event{running})
	if err != nil || results[0].Outcome != protocol.Folded {
		t.Errorf("an event to the other relay: %v, %v", results, err)
	}
	if claimed, err := b.Claimed(t.Context(), "c", ref); !claimed || err != nil {
		t.Errorf("claimed at the other relay: %v, %v", claimed, err)
	}
	for job, err := range a.Watch(t.Context(), "job") {
		if err != nil {
			t.Fatal(err)
		}
		if job.Status == protocol.Running { // the watch brought it
			break
		}
	}
}

// TestLeftovers: what is held unfinished of an attempt that has any end on
// record is to stop; what has none lives on.
func TestLeftovers(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	for _, end := range []protocol.State{protocol.Completed, protocol.Failed, protocol.Canceled} {
		name := "job-" + strings.ToLower(string(end))
		submit(t, s, sample(name))
		finish(t, s, name, end)
		if known, leftover := s.Held("c", protocol.Ref{Job: name, Attempt: 1}); !known || !leftover {
			t.Errorf("%s: known %v, leftover %v", end, known, leftover)
		}
	}
	submit(t, s, sample("live"))
	if _, ok, err := s.Claim(t.Context(), "c", "live"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if known, leftover := s.Held("c", protocol.Ref{Job: "live", Attempt: 1}); !known || leftover {
		t.Errorf("a live attempt: known %v, leftover %v", known, leftover)
	}
	if known, leftover := s.Held("c", protocol.Ref{Job: "foreign", Attempt: 1}); known || leftover {
		t.Errorf("a foreign attempt: known %v, leftover %v", known, leftover)
	}
}

// TestLostSpecification: a damaged record fails its job, not the relay.
func TestLostSpecification(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	job := sample("damaged")
	submit(t, s, job)
	if _, err := s.jobs.Put(t.Context(), specKey("damaged", job.Digest()), []byte(`{"name":"damaged","command":"rm"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Spec(t.Context(), "damaged"); err == nil {
		t.Error("a damaged specification was used")
	}
	if got, err := s.Job(t.Context(), "damaged"); err != nil || got.Status != protocol.Failed || got.Reason.Code != protocol.Undecodable {
		t.Errorf("%s (%v), %v", got.Status, got.Reason, err)
	}
}

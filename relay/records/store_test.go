package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

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

// withCompute adds a cluster "c" and a compute of the same name.
func withCompute(t testing.TB, s *Store) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddCluster(t.Context(), "c", public, "admin"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutCompute(t.Context(), v1.Compute{Name: "c", Cluster: "c", Namespace: "train"}, "admin"); err != nil {
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

func TestFull(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	s, _ := open(t, js, Options{MaxBytes: 200 << 10, MaxQueued: 20})
	withCompute(t, s)
	if info, err := js.Stream(t.Context(), "KV_"+bucketJobs); err != nil || info.CachedInfo().Config.PersistMode != jetstream.DefaultPersistMode {
		t.Errorf("records are not written through: %v", err)
	}
	t.Run("bytes", func(t *testing.T) {
		var err error
		accepted := 0
		for ; err == nil; accepted++ {
			job := sample(fmt.Sprint("big-", accepted))
			job.Env = map[string]string{"BALLAST": string(slices.Repeat([]byte("x"), 30<<10))}
			_, _, err = s.Submit(t.Context(), job, "user")
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("after %d jobs: %v", accepted, err)
		}
		jobs, _, err := s.Jobs(t.Context(), Query{})
		if err != nil || len(jobs) != accepted-1 {
			t.Errorf("%d jobs on record, %d were accepted (%v)", len(jobs), accepted-1, err)
		}
		// What was accepted still goes on.
		finish(t, s, "big-0", protocol.Completed)
	})
	t.Run("jobs", func(t *testing.T) {
		s, _ := open(t, js, Options{MaxBytes: 4 << 20, MaxQueued: 5})
		var err error
		for i := 0; err == nil; i++ {
			_, _, err = s.Submit(t.Context(), sample(fmt.Sprint("small-", i)), "user")
		}
		if !errors.Is(err, ErrFull) || s.index.queued() != 5 {
			t.Errorf("with %d queued: %v", s.index.queued(), err)
		}
	})
}

// TestDiskFull: on a disk without space nothing is accepted, and what was is
// there after space was made.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("cannot mount a small disk here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	store := filepath.Join(dir, "nats")
	js, stopServer := serve(t, store, true)
	s, stop := open(t, js, Options{})
	withCompute(t, s)
	var accepted []string
	var err error
	for i := 0; err == nil; i++ {
		job := sample(fmt.Sprint("job-", i))
		job.Env = map[string]string{"BALLAST": string(slices.Repeat([]byte("x"), 60<<10))}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if _, _, err = s.Submit(ctx, job, "user"); err == nil {
			accepted = append(accepted, job.Name)
		}
		cancel()
	}
	t.Logf("after %d jobs: %v", len(accepted), err)
	if len(accepted) == 0 || len(accepted) > 12<<20/(60<<10) {
		t.Fatalf("%d jobs were accepted on 12 MiB", len(accepted))
	}
	stop()
	stopServer()

	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	js, stopServer = serve(t, store, true)
	s, stop = open(t, js, Options{})
	for _, name := range accepted {
		if _, err := s.Spec(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	stop()
	stopServer()
}

func TestJobsNewestFirst(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	var want []string
	for i := range 25 {
		job := sample(fmt.Sprintf("job-%02d", i))
		job.Experiment = fmt.Sprint("experiment-", i%2)
		submit(t, s, job)
		want = append([]string{job.Name}, want...)
	}
	finish(t, s, "job-03", protocol.Failed)
	pages := func(q Query) (names []string) {
		t.Helper()
		for range 100 {
			jobs, next, err := s.Jobs(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, job := range jobs {
				names = append(names, job.Name)
			}
			if q.After = next; next == "" {
				return names
			}
		}
		t.Fatal("the pages have no end")
		return nil
	}
	for _, limit := range []int{0, 1, 7, 25, 1000} {
		if diff := cmp.Diff(want, pages(Query{Limit: limit})); diff != "" {
			t.Errorf("in pages of %d: %s", limit, diff)
		}
	}
	if got := pages(Query{Status: protocol.Failed}); !slices.Equal(got, []string{"job-03"}) {
		t.Errorf("failed: %v", got)
	}
	if got := pages(Query{Experiment: "experiment-1", Limit: 5}); len(got) != 12 {
		t.Errorf("of an experiment: %v", got)
	}
	if _, _, err := s.Jobs(t.Context(), Query{After: "junk"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a junk cursor: %v", err)
	}
}

func TestSweep(t *testing.T) {
	js, _ := serve(t, t.TempDir(), true)
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s, _ := open(t, js, Options{Now: clock, Retention: 24 * time.Hour})
	withCompute(t, s)
	submit(t, s, sample("ended"))
	submit(t, s, sample("queued"))
	finish(t, s, "ended", protocol.Completed)
	orphan := sample("orphan")
	if _, err := s.jobs.Put(t.Context(), specKey("orphan", orphan.Digest()), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	changed, stop := s.index.watch("ended")
	defer stop()
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.index.get("ended") == nil {
		t.Fatal("a job was purged before its time")
	}

	mu.Lock()
	now = now.Add(25 * time.Hour)
	mu.Unlock()
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := s.Sweep(t.Context()); err != nil { // now its specification too
		t.Fatal(err)
	}
	keys, err := s.jobs.Keys(t.Context())
	queued := sample("queued")
	if diff := cmp.Diff([]string{specKey("queued", queued.Digest()), "queued.status"}, keys); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := s.Job(t.Context(), "ended"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the purged job: %v", err)
	}
	submit(t, s, sample("ended")) // the name is free
	if job, err := s.Job(t.Context(), "ended"); err != nil || job.Status != protocol.Queued {
		t.Errorf("%s, %v", job.Status, err)
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

// TestNotResponding: a claimed job whose cluster fell silent says so, and a
// relay that has just started gives clusters the time to come back.
func TestNotResponding(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	now := time.Now()
	s, _ := open(t, js, Options{})
	s.opts.Now = func() time.Time { return now }
	withCompute(t, s)
	submit(t, s, sample("job"))
	if _, ok, err := s.Claim(t.Context(), "c", "job"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want := func(state protocol.State) {
		t.Helper()
		if job, err := s.Job(t.Context(), "job"); err != nil || job.Status != state {
			t.Errorf("%s (%v), %v; want %s", job.Status, job.Reason, err, state)
		}
	}
	want(protocol.Queued)
	now = now.Add(protocol.PresenceTimeout + time.Second)
	want(protocol.NotResponding)
	s.Seen("c", protocol.Info{AgentVersion: "1.0"}, nil, 0)
	want(protocol.Queued)
	if c, err := s.Cluster(t.Context(), "c"); err != nil || c.Connectivity != v1.Connected || c.AgentVersion != "1.0" {
		t.Errorf("%+v, %v", c, err)
	}
	now = now.Add(protocol.PresenceTimeout + time.Second)
	want(protocol.NotResponding)
	jobs, _, err := s.Jobs(t.Context(), Query{Status: protocol.NotResponding})
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs do not respond, %v", len(jobs), err)
	}
}

func TestComputes(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	put := func(c v1.Compute) error {
		_, _, err := s.PutCompute(t.Context(), c, "admin")
		return err
	}
	for _, test := range []struct {
		compute v1.Compute
		want    error
	}{
		{v1.Compute{Name: "gpu", Cluster: "c", Namespace: "gpu"}, nil},
		{v1.Compute{Name: "gpu", Cluster: "c", Namespace: "gpu", Description: "new"}, nil},
		{v1.Compute{Name: "gpu", Cluster: "c", Namespace: "cpu"}, ErrConflict},
		{v1.Compute{Name: "x", Cluster: "c", Namespace: "azureml"}, ErrInvalid},
		{v1.Compute{Name: "x", Cluster: "nowhere", Namespace: "train"}, ErrInvalid},
		{v1.Compute{Name: "-", Cluster: "c", Namespace: "Train"}, ErrInvalid},
	} {
		if err := put(test.compute); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, want %v", test.compute, err, test.want)
		}
	}
	submit(t, s, sample("one"))
	submit(t, s, sample("two"))
	if _, ok, err := s.Claim(t.Context(), "c", "two"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	computes, err := s.Computes(t.Context())
	if err != nil || len(computes) != 2 || computes[0].Queued != 1 || computes[0].Active != 1 || computes[1].Description != "new" {
		t.Errorf("%+v, %v", computes, err)
	}
}

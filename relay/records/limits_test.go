package records

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

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

package records

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// disturbed is the bucket of the jobs with something in the way of updates.
type disturbed struct {
	jetstream.KeyValue
	before func(ctx context.Context) error
}

func (d disturbed) Update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	if err := d.before(ctx); err != nil {
		return 0, err
	}
	return d.KeyValue.Update(ctx, key, value, last)
}

var errDisk = errors.New("the disk failed")

// TestKeyIsVoidFirst: however slow the jobs' records are, or whatever becomes of
// writing them, a cluster that is disconnected loses its key soon, and its jobs
// are canceled when they can be.
func TestKeyIsVoidFirst(t *testing.T) {
	const jobs = 50
	for name, disturb := range map[string]func(ctx context.Context, tries int64) error{
		"all are slow": func(ctx context.Context, _ int64) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return errors.New("it waits for ever")
			}
		},
		"one fails": func(_ context.Context, tries int64) error {
			if tries == 3 {
				return errDisk
			}
			return nil
		},
		"all fail": func(context.Context, int64) error { return errDisk },
	} {
		t.Run(name, func(t *testing.T) {
			js, _ := serve(t, t.TempDir(), false)
			var void atomic.Bool
			var tries, told atomic.Int64
			s, _ := open(t, js, Options{
				Revoked: func(string) { void.Store(true) },
				Told: func(_ context.Context, _ string, attempts []protocol.Ref) bool {
					told.Store(int64(len(attempts)))
					return true
				},
			})
			atWork(t, s)
			for i := range jobs - 1 {
				job := fmt.Sprint("running-", i)
				submit(t, s, sample(job))
				if _, ok, err := s.Claim(t.Context(), "c", job); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			s.jobs = disturbed{s.jobs, func(ctx context.Context) error {
				if void.Load() {
					return nil
				}
				return disturb(ctx, tries.Add(1))
			}}
			gone, err := s.Disconnect(t.Context(), "c", "ann", true)
			if want := (v1.Disconnection{Cluster: "c", CanceledJobs: 1, LiveJobs: jobs}); err != nil || gone != want {
				t.Errorf("%+v, %v, want %+v", gone, err, want)
			}
			if name == "one fails" && told.Load() != jobs-1 {
				t.Errorf("the agent was told of %d jobs, want all but one", told.Load())
			}
			wantJob(t, s, "waiting", protocol.Canceled, "cluster c was disconnected by ann")
			joined(t, s, "c")
			for _, job := range []string{"running", "running-0", fmt.Sprint("running-", jobs-2)} {
				wantJob(t, s, job, protocol.CancelRequested, "cluster c was disconnected by ann")
			}
		})
	}
}

// TestKeepIsNoSurprise: a disconnection that cancels and was broken off is not
// ended by one that is to keep the jobs.
func TestKeepIsNoSurprise(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	cut := new(revoked)
	s, _ := open(t, js, Options{Revoked: cut.add})
	atWork(t, s)
	whole := s.jobs
	s.jobs = disturbed{whole, func(context.Context) error { return errDisk }}
	if _, err := s.Disconnect(t.Context(), "c", "ann", true); !errors.Is(err, errDisk) || len(cut.take()) != 1 {
		t.Errorf("its key is valid, or nothing is said: %v", err)
	}
	s.jobs = whole
	if _, err := s.Disconnect(t.Context(), "c", "ann", false); !errors.Is(err, ErrConflict) {
		t.Errorf("to keep the jobs: %v", err)
	}
	if job, err := s.Job(t.Context(), "waiting"); err != nil || job.Status != protocol.Queued {
		t.Errorf("it is %s, %v", job.Status, err)
	}
	if gone, err := s.Disconnect(t.Context(), "c", "ann", true); err != nil || gone.CanceledJobs != 1 {
		t.Errorf("%+v, %v", gone, err)
	}
	wantJob(t, s, "waiting", protocol.Canceled, "cluster c was disconnected by ann")
}

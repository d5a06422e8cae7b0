package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// ErrSpecLost: the specification is not what was accepted; only a damaged
// store does that.
var ErrSpecLost = errors.New("its specification is lost or damaged")

// Submit accepts a job and returns it once it is on disk. The same job under
// the same name is the same job, and created is false; another one is an
// ErrConflict.
func (s *Store) Submit(ctx context.Context, job protocol.Job, by string) (_ v1.Job, created bool, _ error) {
	if err := job.Validate(); err != nil {
		return v1.Job{}, false, fmt.Errorf("job %q: %w: %w", job.Name, ErrInvalid, err)
	}
	if err := s.ready(ctx); err != nil {
		return v1.Job{}, false, err
	}
	rec, created, err := s.accept(ctx, job, by)
	if err != nil {
		return v1.Job{}, false, err
	}
	if digest := job.Digest(); rec.Digest != digest {
		return v1.Job{}, false, fmt.Errorf("job %s: %w: the name is taken by another job, accepted at %s; choose another name",
			job.Name, ErrConflict, rec.Created.Format("2006-01-02 15:04:05Z"))
	}
	v := s.view(rec, job)
	if compute, ok := s.setup.computes.get(job.Compute); ok && created {
		v.Warnings = s.warnings(&job, rec, compute)
	}
	return v, created, nil
}

// accept writes the job's record, or returns the one that has the name.
func (s *Store) accept(ctx context.Context, job protocol.Job, by string) (_ *record, created bool, _ error) {
	if rec := s.index.get(job.Name); rec != nil {
		return rec, false, nil
	}
	compute, ok := s.setup.computes.get(job.Compute)
	if !ok {
		return nil, false, fmt.Errorf("job %s: %w: compute: there is no compute %q", job.Name, ErrInvalid, job.Compute)
	}
	if compute.Leaving != nil {
		return nil, false, fmt.Errorf("job %s: %w: compute: %s is being detached", job.Name, ErrInvalid, job.Compute)
	}
	if err := s.trainingOff(compute.Cluster); err != nil {
		return nil, false, fmt.Errorf("job %s: %w: compute %s: %w", job.Name, ErrInvalid, job.Compute, err)
	}
	kind, err := s.instanceType(&job, compute)
	if err != nil {
		return nil, false, fmt.Errorf("job %s: %w: %w", job.Name, ErrInvalid, err)
	}
	if err := s.room(ctx); err != nil {
		return nil, false, fmt.Errorf("job %s was not accepted: %w", job.Name, err)
	}
	spec, err := json.Marshal(job)
	if err != nil {
		return nil, false, fmt.Errorf("job %s: %w", job.Name, err)
	}
	rec := &record{Name: job.Name, Written: s.now(), Status: Status{
		Digest: job.Digest(), Compute: job.Compute, InstanceType: kind, Priority: job.Priority,
		Created: s.now(), CreatedBy: by,
		DisplayName: job.DisplayName, Experiment: job.Experiment,
		MaxAttempts: s.opts.MaxAttempts,
	}}
	status, err := json.Marshal(rec.Status)
	if err != nil {
		return nil, false, fmt.Errorf("job %s: %w", job.Name, err)
	}
	if _, err := s.jobs.Put(ctx, specKey(job.Name, rec.Digest), spec); err != nil {
		return nil, false, fmt.Errorf("job %s was not accepted: its specification cannot be written: %w", job.Name, full(err))
	}
	rec.Revision, err = s.jobs.Create(ctx, statusKey(job.Name), status)
	if errors.Is(err, jetstream.ErrKeyExists) {
		rec, err = s.fetch(ctx, job.Name)
		return rec, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("job %s was not accepted: its record cannot be written: %w", job.Name, full(err))
	}
	rec.intern()
	s.index.apply(rec)
	s.metrics.submitted.Inc()
	s.opts.Nudge(compute.Cluster)
	return rec, true, nil
}

// room says why no job can be accepted now. A tenth of the bucket is kept for
// what becomes of those that are.
func (s *Store) room(ctx context.Context) error {
	if queued := s.index.queued(); queued >= s.opts.MaxQueued {
		return fmt.Errorf("%w: %d jobs are queued, at most %d are allowed; try again when some are done", ErrFull, queued, s.opts.MaxQueued)
	}
	status, err := s.jobs.Status(ctx)
	if err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	if limit := s.opts.MaxBytes / 10 * 9; status.Bytes() >= uint64(limit) {
		return fmt.Errorf("%w: the records take %d bytes, at most %d are allowed; raise the limit or shorten the retention", ErrFull, status.Bytes(), limit)
	}
	return nil
}

// Errors of JetStream that mean that a limit of the store is reached.
const (
	codeInsufficientResources = 10023
	codeStorageExceeded       = 10047
	codeStoreFailed           = 10077
)

// full marks an error of the broker that says that there is no space left.
func full(err error) error {
	if api := new(jetstream.APIError); errors.As(err, &api) {
		switch api.ErrorCode {
		case codeInsufficientResources, codeStorageExceeded, codeStoreFailed:
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}

// Cancel asks for the end of a job, on behalf of by. Of a job that no cluster
// has claimed it is the end; one that has ended stays as it is.
func (s *Store) Cancel(ctx context.Context, name, by string) (v1.Job, error) {
	var asked bool
	rec, err := s.update(ctx, name, func(status *Status) bool {
		asked = status.cancel(by, protocol.NewReason(protocol.UserCanceled, "canceled by %s", by), s.now())
		return asked
	})
	if err != nil {
		return v1.Job{}, err
	}
	if a := rec.live(); asked && a != nil {
		s.opts.Nudge(a.Cluster)
	}
	return s.viewOf(ctx, rec)
}

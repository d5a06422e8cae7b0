package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

// maxTries bounds how often a change meets another one first.
const maxTries = 16

// update changes a record by compare-and-set and returns it once it is on
// disk. change gets a copy to modify and reports whether it did; it is called
// again when another change came first, and must bear that.
func (s *Store) update(ctx context.Context, name string, change func(*Status) bool) (*record, error) {
	rec, err := s.record(ctx, name)
	if err != nil {
		return nil, err
	}
	for range maxTries {
		status := rec.clone()
		if !change(&status) {
			return rec, nil
		}
		next, err := s.write(ctx, rec, status)
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return next, err
		}
		if rec, err = s.fetch(ctx, name); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("job %s: its record was changed by others %d times in a row; try again", name, maxTries)
}

// write stores the status as the successor of rec.
func (s *Store) write(ctx context.Context, rec *record, status Status) (*record, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", rec.Name, err)
	}
	revision, err := s.jobs.Update(ctx, statusKey(rec.Name), data, rec.Revision)
	if err != nil {
		return nil, fmt.Errorf("write the record of job %s: %w", rec.Name, err)
	}
	next := &record{Name: rec.Name, Revision: revision, Written: s.now(), Status: status}
	s.index.apply(next)
	return next, nil
}

// record is the job's record as this relay knows it, read from the bucket
// where it does not.
func (s *Store) record(ctx context.Context, name string) (*record, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if rec := s.index.get(name); rec != nil {
		return rec, nil
	}
	return s.fetch(ctx, name)
}

// fetch reads the job's record from the bucket.
func (s *Store) fetch(ctx context.Context, name string) (*record, error) {
	e, err := s.jobs.Get(ctx, statusKey(name))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrInvalidKey):
		return nil, fmt.Errorf("job %s: %w", name, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("read the record of job %s: %w", name, err)
	}
	rec, err := decodeRecord(name, e)
	if err != nil {
		return nil, err
	}
	s.index.apply(rec)
	return rec, nil
}

// spec reads the specification that the record was accepted with.
func (s *Store) spec(ctx context.Context, rec *record) (job protocol.Job, err error) {
	e, err := s.jobs.Get(ctx, specKey(rec.Name, rec.Digest))
	if err != nil {
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			err = ErrSpecLost
		}
		return job, fmt.Errorf("read the specification of job %s: %w", rec.Name, err)
	}
	if err := json.Unmarshal(e.Value(), &job); err != nil || job.Digest() != rec.Digest {
		return job, fmt.Errorf("read the specification of job %s: %w", rec.Name, ErrSpecLost)
	}
	return job, nil
}

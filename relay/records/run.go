package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// sweepInterval is how often old records are looked for.
const sweepInterval = time.Hour

// Run reads the records, then follows what other relays change and purges old
// records, until ctx is done. An error means that the broker is gone.
func (s *Store) Run(ctx context.Context) error {
	// With a history of one, every key's one message is its last: reading all
	// of them is the same as, and much faster than, asking for the last ones.
	plan, err := s.plan.WatchAll(ctx, jetstream.IncludeHistory())
	if err != nil {
		return fmt.Errorf("read the bucket %s: %w", bucketSetup, err)
	}
	defer func() { _ = plan.Stop() }()
	if err := s.read(ctx, plan, s.applySetup); err != nil {
		return err
	}
	jobs, err := s.jobs.Watch(ctx, "*"+statusSuffix, jetstream.IncludeHistory())
	if err != nil {
		return fmt.Errorf("read the bucket %s: %w", bucketJobs, err)
	}
	defer func() { _ = jobs.Stop() }()
	if err := s.read(ctx, jobs, s.applyJob); err != nil {
		return err
	}
	close(s.loaded)
	s.opts.Log.Info().Int("jobs", s.index.len()).Int("queued", s.index.queued()).
		Dur("took", s.opts.Now().Sub(s.started)).Msg("records are read")

	if err := s.tidy(ctx, 0); err != nil && ctx.Err() == nil {
		s.opts.Log.Error().Err(err).Msg("cannot end what the relay was at when it stopped; trying again in an hour")
	}
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		var ok bool
		var e jetstream.KeyValueEntry
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				s.opts.Log.Error().Err(err).Msg("cannot purge old records; trying again in an hour")
			}
			continue
		case e, ok = <-jobs.Updates():
			s.apply(e, s.applyJob)
		case e, ok = <-plan.Updates():
			s.apply(e, s.applySetup)
		}
		if !ok {
			if ctx.Err() != nil {
				return nil
			}
			return errors.New("records: the broker stopped the watch; start the relay again")
		}
	}
}

// read applies what a watch finds at its start.
func (s *Store) read(ctx context.Context, w jetstream.KeyWatcher, apply func(jetstream.KeyValueEntry) error) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("records: the broker stopped while they were read; start the relay again")
			}
			if e == nil { // the end of what was there
				return nil
			}
			s.apply(e, apply)
		}
	}
}

// apply takes in one entry. One that cannot be read is left alone, loudly: it
// belongs to a newer relay or to somebody's hand.
func (s *Store) apply(e jetstream.KeyValueEntry, apply func(jetstream.KeyValueEntry) error) {
	if e == nil {
		return
	}
	if err := apply(e); err != nil {
		s.opts.Log.Error().Err(err).Str("bucket", e.Bucket()).Str("key", e.Key()).Msg("cannot read a record; leaving it alone")
	}
}

func (s *Store) applyJob(e jetstream.KeyValueEntry) error {
	name, ok := nameOf(e.Key())
	if !ok {
		return fmt.Errorf("%q is not the key of a status", e.Key())
	}
	if e.Operation() != jetstream.KeyValuePut {
		s.index.remove(name, e.Revision())
		return nil
	}
	rec, err := decodeRecord(name, e)
	if err != nil {
		return err
	}
	s.index.apply(rec)
	return nil
}

func decodeRecord(name string, e jetstream.KeyValueEntry) (*record, error) {
	rec := &record{Name: name, Revision: e.Revision(), Written: e.Created()}
	if err := json.Unmarshal(e.Value(), &rec.Status); err != nil {
		return nil, fmt.Errorf("job %s: status: %w", name, err)
	}
	rec.intern()
	return rec, nil
}

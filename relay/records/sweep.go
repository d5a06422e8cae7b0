package records

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// orphanAge is how old a specification without status must be to be swept: no
// submit takes that long.
const orphanAge = markerTTL

// Sweep purges what has had its time: records of jobs that ended longer ago
// than the retention, specifications that were never accepted, and what is left
// of clusters that are no more.
func (s *Store) Sweep(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	purged := 0
	for rec := range s.index.newest(nil) {
		state, _ := rec.State()
		if !state.Terminal() || s.opts.Now().Sub(rec.Written) < s.opts.Retention {
			continue
		}
		ok, err := s.purge(ctx, statusKey(rec.Name), rec.Revision)
		if err != nil {
			return err
		}
		if ok {
			// The watch takes it out of the index, in its order.
			purged++
		}
	}
	orphans, err := s.sweepSpecs(ctx)
	err = errors.Join(err, s.tidy(ctx, leavingAge))
	if purged+orphans > 0 {
		s.opts.Log.Info().Int("jobs", purged).Int("specifications", orphans).Msg("old records are purged")
	}
	return err
}

// sweepSpecs purges specifications that no status names.
func (s *Store) sweepSpecs(ctx context.Context) (purged int, _ error) {
	specs, err := s.jobs.Watch(ctx, "*"+specInfix+"*", jetstream.MetaOnly(), jetstream.IgnoreDeletes(), jetstream.IncludeHistory())
	if err != nil {
		return 0, fmt.Errorf("list the specifications: %w", err)
	}
	defer func() { _ = specs.Stop() }()
	for e := range specs.Updates() {
		if e == nil {
			return purged, nil
		}
		name, digest, _ := strings.Cut(e.Key(), specInfix)
		if rec := s.index.get(name); rec != nil && specKey(name, rec.Digest) == specKey(name, digest) {
			continue
		}
		if s.opts.Now().Sub(e.Created()) < orphanAge {
			continue
		}
		// The revision keeps a submit that is just writing it again safe.
		ok, err := s.purge(ctx, e.Key(), e.Revision())
		if err != nil {
			return purged, err
		}
		if ok {
			purged++
		}
	}
	return purged, context.Cause(ctx)
}

// purge deletes a key, unless somebody wrote it since.
func (s *Store) purge(ctx context.Context, key string, revision uint64) (bool, error) {
	err := s.jobs.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerTTL))
	switch {
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("purge %s: %w", key, err)
	}
	return true, nil
}

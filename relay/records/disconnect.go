package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Times of a disconnection.
const (
	// tellTimeout is how long cancels may be written, and fetched by the agent,
	// before it is cut off: however many there are, its key is void soon.
	tellTimeout = 1500 * time.Millisecond
	// askTimeout is what of that they may take to be written.
	askTimeout = time.Second
	// leavingAge is how old a disconnection must be to count as abandoned.
	leavingAge = 10 * time.Minute
)

// Disconnect revokes the key of a cluster, cuts its agent off and forgets the
// cluster. Its computes stay, for a cluster of the same name, and so do its
// jobs: with cancelJobs all of them are canceled, the agent being told first
// where it is connected; without, those that run go on in the cluster.
//
// Once it has begun, a disconnection that cancels ends, whatever becomes of ctx
// or the relay; one that does not is refused until then. Whatever fails of the
// cancels, the key is void first.
func (s *Store) Disconnect(ctx context.Context, name, by string, cancelJobs bool) (v1.Disconnection, error) {
	result := v1.Disconnection{Cluster: name}
	if err := s.ready(ctx); err != nil {
		return result, err
	}
	c, ok := s.setup.clusters.get(name)
	switch {
	case !ok:
		return result, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	case c.Leaving != nil && !cancelJobs:
		return result, fmt.Errorf("cluster %s: %w: it is being disconnected already, and its jobs are canceled: repeat that with --jobs cancel, or wait until the relay has ended it", name, ErrConflict)
	}
	if cancelJobs {
		_, err := s.changeCluster(ctx, name, func(c *cluster, is bool) error {
			if !is {
				return fmt.Errorf("cluster %s: %w", name, ErrNotFound)
			}
			c.Join, c.Leaving = nil, &leaving{By: by, At: s.now()}
			return nil
		})
		if err != nil {
			return result, err
		}
		ctx = context.WithoutCancel(ctx)
		if result.Told, err = s.cancelLive(ctx, name, by); err != nil {
			// What was not asked for is asked for again, once the key is void.
			s.opts.Log.Error().Err(err).Str("cluster", name).Msg("cannot cancel all of the cluster's jobs before its agent is cut off")
		}
	}
	return result, s.leave(ctx, name, &result)
}

// cancelLive asks for the end of what the cluster runs, as far as there is time,
// and waits until its agent, where it is connected, was told. told says whether
// that was all of it.
func (s *Store) cancelLive(ctx context.Context, name, by string) (told bool, failed error) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	asking, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	var asked []protocol.Ref
	live := s.index.live(name)
	for i, rec := range live {
		if asking.Err() != nil {
			failed = fmt.Errorf("there was time for %d of %d jobs", i, len(live))
			break
		}
		rec, err := s.update(asking, rec.Name, func(status *Status) bool { return status.cancel(by, leftReason(name, by), s.now()) })
		if err != nil {
			failed = err // the others may still be told
			continue
		}
		if rec.live() != nil {
			asked = append(asked, protocol.Ref{Job: rec.Name, Attempt: len(rec.Attempts)})
		}
	}
	if len(asked) == 0 || !s.setup.connected(name, s.opts.Now()) {
		return len(asked) == 0 && failed == nil, failed
	}
	s.opts.Nudge(name)
	return s.opts.Told(ctx, name, asked) && failed == nil, failed
}

func leftReason(name, by string) *protocol.Reason {
	return protocol.NewReason(protocol.UserCanceled, "cluster %s was disconnected by %s", name, by)
}

// leave cuts the agent off, cancels what is to be canceled, and forgets the
// cluster. Each step bears being done again.
func (s *Store) leave(ctx context.Context, name string, result *v1.Disconnection) error {
	c, ok := s.setup.clusters.get(name)
	if ok && c.Leaving != nil {
		// The key goes before the queued jobs: they may be many.
		_, err := s.changeCluster(ctx, name, func(c *cluster, is bool) error {
			if !is || c.PublicKey == "" {
				return errUnchanged
			}
			c.PublicKey = ""
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.cancelAll(ctx, name, c.Leaving.By, result); err != nil {
			return fmt.Errorf("disconnect cluster %s: %w", name, err)
		}
	}
	if err := s.forget(ctx, name); err != nil {
		return err
	}
	result.LiveJobs = len(s.index.live(name))
	s.opts.Left(name)
	return s.forgetRest(ctx, name)
}

// cancelAll cancels every job of the cluster's computes that has not ended.
func (s *Store) cancelAll(ctx context.Context, name, by string, result *v1.Disconnection) error {
	for rec := range s.index.newest(nil) {
		compute, ok := s.setup.computes.get(rec.Compute)
		if !ok || compute.Cluster != name || !rec.claimable() && rec.live() == nil {
			continue
		}
		rec, err := s.update(ctx, rec.Name, func(status *Status) bool { return status.cancel(by, leftReason(name, by), s.now()) })
		if errors.Is(err, ErrNotFound) {
			continue // purged meanwhile
		}
		if err != nil {
			return err
		}
		if rec.Closed != nil {
			result.CanceledJobs++
		}
	}
	return nil
}

// forget removes the record of a cluster, which cuts its agent off, and what
// was heard of it.
func (s *Store) forget(ctx context.Context, name string) error {
	for range maxTries {
		_, revision := s.setup.clusters.at(name)
		if revision == 0 {
			break
		}
		err := s.plan.Purge(ctx, clusterPrefix+name, jetstream.PurgeTTL(markerTTL), jetstream.LastRevision(revision))
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			if err := s.rereadCluster(ctx, name); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("disconnect cluster %s: %w", name, full(err))
		}
		s.applyCluster(name, row[cluster]{gone: true, revision: revision + 1})
	}
	if _, ok := s.setup.clusters.get(name); ok {
		return fmt.Errorf("disconnect cluster %s: its record was changed by others %d times in a row; try again", name, maxTries)
	}
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	delete(s.setup.seen, name)
	delete(s.setup.reported, name)
	return nil
}

// forgetRest removes what the agent of a cluster that is no more had said: the
// keys that it trusts, what it reported, and its term, unless attempts live that
// were observed in that.
func (s *Store) forgetRest(ctx context.Context, name string) error {
	if _, is := s.setup.clusters.get(name); is {
		return nil
	}
	err := errors.Join(purgeRow(ctx, s, &s.setup.trusts, trustPrefix, name), purgeRow(ctx, s, &s.setup.reports, reportPrefix, name))
	if len(s.index.live(name)) > 0 {
		return err
	}
	return errors.Join(err, purgeRow(ctx, s, &s.setup.terms, termPrefix, name))
}

// purgeRow deletes a key of the setup, unless somebody wrote it since.
func purgeRow[T any](ctx context.Context, s *Store, t *table[T], prefix, name string) error {
	_, revision := t.at(name)
	if revision == 0 {
		return nil
	}
	err := s.plan.Purge(ctx, prefix+name, jetstream.PurgeTTL(markerTTL), jetstream.LastRevision(revision))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return nil // a cluster of that name is there again
	}
	if err != nil {
		return fmt.Errorf("delete %s%s: %w", prefix, name, full(err))
	}
	t.apply(name, row[T]{gone: true, revision: revision + 1})
	return nil
}

// tidy ends disconnections that nobody is at any more, being older than age,
// and detachments of computes, and removes what has had its time: join tokens
// that were not used, and what is left of clusters that are no more.
func (s *Store) tidy(ctx context.Context, age time.Duration) error {
	var failed error
	for _, name := range s.setup.clusters.names() {
		c, ok := s.setup.clusters.get(name)
		switch {
		case !ok:
		case c.Leaving != nil && s.opts.Now().Sub(c.Leaving.At) >= age:
			s.opts.Log.Info().Str("cluster", name).Msg("going on with a disconnection that was broken off")
			failed = errors.Join(failed, s.leave(ctx, name, new(v1.Disconnection)))
		case c.Join != nil && c.Join.UsedBy == "" && s.opts.Now().Sub(c.Join.Expires) > expiredKept:
			_, err := s.changeCluster(ctx, name, func(now *cluster, is bool) error {
				if !is || now.Join == nil || *now.Join != *c.Join {
					return errUnchanged
				}
				now.Join = nil
				return nil
			})
			failed = errors.Join(failed, err)
		}
	}
	failed = errors.Join(failed, s.leaveComputes(ctx), s.closeStrays(ctx))
	for _, name := range slices.Concat(s.setup.terms.names(), s.setup.trusts.names(), s.setup.reports.names()) {
		failed = errors.Join(failed, s.forgetRest(ctx, name))
	}
	s.setup.drop(s.opts.Now().Add(-markerTTL)) // as the bucket does
	return failed
}

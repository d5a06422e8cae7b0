package records

import (
	"context"
	"errors"

	"github.com/trainrelay/trainrelay/protocol"
)

// Claim is an attempt that a cluster claimed and has not ended.
type Claim struct {
	protocol.Ref
	Compute      string
	InstanceType string
	// Latest is the last observation; nil when nothing was said of it yet.
	Latest *protocol.Event
	// Cancel is why it shall end; nil when nobody wants that.
	Cancel *protocol.Reason
}

// Claims are the cluster's, by the names of their jobs.
func (s *Store) Claims(cluster string) []Claim {
	recs := s.index.live(cluster)
	claims := make([]Claim, 0, len(recs))
	for _, rec := range recs {
		a := rec.live()
		if a == nil || a.Cluster != cluster {
			continue
		}
		c := Claim{Ref: protocol.Ref{Job: rec.Name, Attempt: len(rec.Attempts)}, Compute: rec.Compute, InstanceType: rec.InstanceType, Latest: a.Latest}
		if rec.Cancel != nil {
			c.Cancel = rec.Cancel.Reason
		}
		claims = append(claims, c)
	}
	return claims
}

// Spec is the specification that a job was accepted with. A queued job whose
// specification is lost fails with that.
func (s *Store) Spec(ctx context.Context, name string) (protocol.Job, error) {
	rec, err := s.record(ctx, name)
	if err != nil {
		return protocol.Job{}, err
	}
	job, err := s.spec(ctx, rec)
	if errors.Is(err, ErrSpecLost) {
		_, failed := s.update(ctx, name, func(status *Status) bool {
			return status.end(protocol.Failed, protocol.NewReason(protocol.Undecodable, "%v", err), s.now())
		})
		if failed != nil {
			return job, failed // the store's fault, and not this job's alone
		}
	}
	return job, err
}

// Claim gives the next attempt of a queued job to the cluster and returns its
// number; ok is false where the job was to be had no more.
func (s *Store) Claim(ctx context.Context, cluster, name string) (attempt int, ok bool, _ error) {
	_, err := s.update(ctx, name, func(status *Status) bool {
		compute, known := s.setup.computes.get(status.Compute)
		if !known || compute.Cluster != cluster || !s.setup.works(cluster) {
			ok = false
			return false
		}
		attempt, ok = status.claim(cluster, s.now())
		return ok
	})
	if err != nil || !ok {
		return 0, false, err
	}
	s.metrics.claims.Inc()
	return attempt, true, nil
}

// Adopt records that the cluster holds an attempt, where the record does not
// know of it: the store was restored from a backup that is older than the
// claim. known is false where the job is none of the cluster's.
func (s *Store) Adopt(ctx context.Context, cluster string, held protocol.Ref) (known bool, _ error) {
	_, err := s.update(ctx, held.Job, func(status *Status) bool {
		compute, ok := s.setup.computes.get(status.Compute)
		if !ok || compute.Cluster != cluster {
			known = false
			return false
		}
		adopted := status.adopt(cluster, held.Attempt, s.now())
		known = adopted || status.Closed != nil || status.attempt(cluster, held.Attempt) != nil
		return adopted
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return known, err
}

// Held judges an unfinished attempt that a cluster holds. known is false for
// one that the relay has no record of, and which is to be left alone. leftover
// is true where the attempt or its job has ended on record, whoever ended it:
// what still runs of it is to stop, since nobody could ask for that any more.
// An end that was folded while the sync was on its way looks the same and is
// no harm, since a finished Kubernetes Job is kept for its time all the same.
func (s *Store) Held(cluster string, held protocol.Ref) (known, leftover bool) {
	rec := s.index.get(held.Job)
	if rec == nil {
		return false, false
	}
	a := rec.attempt(cluster, held.Attempt)
	compute, ok := s.setup.computes.get(rec.Compute)
	switch {
	case a == nil && rec.Closed != nil && ok && compute.Cluster == cluster:
		return true, true
	case a == nil:
		return false, false
	}
	return true, a.End != nil || rec.Closed != nil || held.Attempt < len(rec.Attempts)
}

// Claimed reports whether the attempt was claimed by the cluster.
func (s *Store) Claimed(ctx context.Context, cluster string, ref protocol.Ref) (bool, error) {
	rec, err := s.record(ctx, ref.Job)
	if err == nil && rec.attempt(cluster, ref.Attempt) == nil {
		rec, err = s.fetch(ctx, ref.Job) // another relay may know better
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && rec.attempt(cluster, ref.Attempt) != nil, err
}

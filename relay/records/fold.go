package records

import (
	"context"
	"errors"

	"github.com/trainrelay/trainrelay/protocol"
)

// Fold takes in what a cluster's agent said of attempts, in its order, and
// returns once all of it is on disk. An end that contradicts the record's is
// logged and counted, and changes nothing.
func (s *Store) Fold(ctx context.Context, cluster string, events []protocol.Event) ([]protocol.EventResult, error) {
	results := make([]protocol.EventResult, len(events))
	byJob := map[string][]int{} // positions in events, in order
	var jobs []string           // in the order of their first event
	for i, e := range events {
		results[i] = protocol.EventResult{Ref: e.Ref, Outcome: protocol.Folded}
		if byJob[e.Job] == nil {
			jobs = append(jobs, e.Job)
		}
		byJob[e.Job] = append(byJob[e.Job], i)
	}
	for _, job := range jobs {
		of := make([]protocol.Event, 0, len(byJob[job]))
		for _, i := range byJob[job] {
			of = append(of, events[i])
		}
		foldings, err := s.foldJob(ctx, cluster, job, of)
		if err != nil {
			return nil, err
		}
		for n, i := range byJob[job] {
			if foldings[n] == unknown {
				results[i].Outcome = protocol.Unknown
			}
		}
	}
	return results, s.settle(ctx, cluster)
}

// foldJob folds events of one job in one write.
func (s *Store) foldJob(ctx context.Context, cluster, job string, events []protocol.Event) ([]folding, error) {
	foldings := make([]folding, len(events))
	stale := false
	fold := func(status *Status) bool {
		changed := false
		stale = false
		for i, e := range events {
			foldings[i] = status.fold(cluster, e)
			changed = changed || foldings[i] == folded
			stale = stale || foldings[i] == unknown
		}
		return changed
	}
	rec, err := s.update(ctx, job, fold)
	if err == nil && stale {
		// The claim may be another relay's and news here.
		if _, err = s.fetch(ctx, job); err == nil {
			rec, err = s.update(ctx, job, fold)
		}
	}
	if errors.Is(err, ErrNotFound) {
		return make([]folding, len(events)), nil // all unknown
	}
	if err != nil {
		return nil, err
	}
	s.report(cluster, rec, events, foldings)
	return foldings, nil
}

// report counts what was folded, and wakes the cluster for a next attempt.
func (s *Store) report(cluster string, rec *record, events []protocol.Event, foldings []folding) {
	again := false
	for i, e := range events {
		s.metrics.events.WithLabelValues(foldings[i].String()).Inc()
		again = again || foldings[i] == folded && e.Retry
		if foldings[i] == conflicted {
			end := rec.Attempts[e.Attempt-1].End
			s.opts.Log.Error().Str("cluster", cluster).Stringer("attempt", e.Ref).Str("end", string(end.State)).
				Str("says", string(e.State)).Msg("an agent contradicts an end; the first one stands")
		}
	}
	if again && rec.claimable() {
		if compute, ok := s.setup.computes.get(rec.Compute); ok {
			s.opts.Nudge(compute.Cluster)
		}
	}
}

func (f folding) String() string {
	return [...]string{"unknown", "known", "folded", "conflict"}[f]
}

package records

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// report is the record of what a cluster's agent reported besides its work:
// answers that it did not believe, its last look at its surroundings, and what
// it found in its cluster.
type report struct {
	Incidents v1.Incidents `json:"incidents"`
	// Counted is, of each kind, the incident that was counted last. An agent
	// tells an incident until it is answered, and by its time it is the same.
	Counted map[protocol.BreachKind]counted `json:"counted,omitempty"`
	Check   *protocol.Check                 `json:"check,omitempty"`
	Found   *protocol.Found                 `json:"found,omitempty"`
}

type counted struct {
	Time  time.Time `json:"time"`
	Count int       `json:"count"`
}

// reporting is the report of a cluster as it goes on in memory. The setup's
// mutex is for all but turn.
type reporting struct {
	turn sync.Mutex // one report at a time
	report
	waiting map[protocol.BreachKind]protocol.Incident // counted, not on record yet
	written map[protocol.BreachKind]time.Time         // when the kind was last put on record
}

// incidentPause is how often incidents of one kind and cluster are put on
// record: a broker that forges every answer fills no log.
const incidentPause = time.Minute

// maxCount bounds what one report is believed to count.
const maxCount = 1 << 20

// otherBreach stands for the kinds that this relay does not know.
const otherBreach protocol.BreachKind = "other"

func knownBreach(kind protocol.BreachKind) protocol.BreachKind {
	switch kind {
	case protocol.Unsigned, protocol.UnknownKey, protocol.Forged, protocol.Misaddressed, protocol.Replayed, protocol.Expired:
		return kind
	}
	return otherBreach
}

// Report takes in what the agent of a cluster reports besides its work. It
// returns the incidents that are news and were put into the audit log: each
// once, and many of one kind as one with their count. What cannot be written is
// kept for the next report, and returned with the error, too. The audit log
// comes first: a crash in between makes an entry twice, and loses none.
func (s *Store) Report(ctx context.Context, name string, said *protocol.Sync) (news []protocol.Incident, _ error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if _, ok := s.setup.clusters.get(name); !ok {
		return nil, nil // it was disconnected while this was on its way
	}
	now := s.setup.reporting(name)
	now.turn.Lock()
	defer now.turn.Unlock()
	news, next, changed := s.setup.take(now, said, s.now())
	if !changed {
		return nil, nil
	}
	for _, incident := range news {
		if err := s.opts.Incident(ctx, name, incident); err != nil {
			return news, fmt.Errorf("write a security incident of cluster %s into the audit log: %w", name, err)
		}
	}
	_, revision := s.setup.reports.at(name)
	revision, err := s.replace(ctx, reportPrefix+name, next, revision)
	if err != nil {
		return news, fmt.Errorf("write what the agent of cluster %s reports: %w", name, err)
	}
	s.setup.reports.apply(name, row[report]{value: next, revision: revision})
	s.setup.put(now, next, news, s.now())
	return news, s.forgetRest(ctx, name) // where it was disconnected meanwhile
}

// put notes what is on record now.
func (s *setup) put(now *reporting, next report, news []protocol.Incident, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now.Check, now.Found = next.Check, next.Found
	for _, incident := range news {
		delete(now.waiting, incident.Kind)
		now.written[incident.Kind] = at
	}
}

// take counts what is said, and returns what is to be put on record for it.
func (s *setup) take(now *reporting, said *protocol.Sync, at time.Time) (news []protocol.Incident, next report, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, incident := range said.Incidents {
		now.count(incident)
	}
	news, next = now.due(at), now.report
	if said.Check != nil && (next.Check == nil || !next.Check.Time.Equal(said.Check.Time)) {
		next.Check, changed = said.Check, true
	}
	if said.Found != nil && (next.Found == nil || !next.Found.Time.Equal(said.Found.Time)) {
		next.Found, changed = said.Found, true
	}
	return news, next, changed || len(news) > 0
}

// count takes in an incident, unless it was counted before.
func (r *reporting) count(i protocol.Incident) {
	i.Kind = knownBreach(i.Kind)
	i.Count = min(max(i.Count, 1), maxCount)
	fresh := i.Count
	if last := r.Counted[i.Kind]; last.Time.Equal(i.Time) {
		fresh -= last.Count
	}
	if fresh <= 0 {
		return
	}
	// The record's map is not changed in place.
	r.Counted = maps.Clone(r.Counted)
	if r.Counted == nil {
		r.Counted = map[protocol.BreachKind]counted{}
	}
	r.Counted[i.Kind] = counted{Time: i.Time, Count: i.Count}
	r.Incidents.Count += fresh
	r.Incidents.Last = i
	i.Count = fresh + r.waiting[i.Kind].Count
	r.waiting[i.Kind] = i
}

// due are the incidents that are to be put on record now.
func (r *reporting) due(now time.Time) []protocol.Incident {
	var due []protocol.Incident
	for kind, incident := range r.waiting {
		if at := r.written[kind]; at.IsZero() || now.Sub(at) >= incidentPause {
			due = append(due, incident)
		}
	}
	slices.SortFunc(due, func(a, b protocol.Incident) int { return cmp.Compare(a.Kind, b.Kind) })
	return due
}

// reporting is the report of the cluster, as it goes on.
func (s *setup) reporting(cluster string) *reporting {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reported[cluster]
	if r == nil {
		r = &reporting{waiting: map[protocol.BreachKind]protocol.Incident{}, written: map[protocol.BreachKind]time.Time{}}
		r.report, _ = s.reports.get(cluster)
		s.reported[cluster] = r
	}
	return r
}

// report is what the cluster's agent reported, on record or not yet.
func (s *setup) report(cluster string) report {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.reported[cluster]; r != nil {
		return r.report
	}
	r, _ := s.reports.get(cluster)
	return r
}

package records

import (
	"slices"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Status is the changing half of a job's record. It holds facts, each with one
// writer; the job's state is derived from them and stored nowhere.
type Status struct {
	// What the order and the lists need, fixed when the job was accepted.
	Digest  string `json:"digest"`
	Compute string `json:"compute"`
	// InstanceType is the one asked for, or what was the default.
	InstanceType string    `json:"instance_type,omitempty"`
	Priority     int       `json:"priority,omitempty"`
	Created      time.Time `json:"created"`
	CreatedBy    string    `json:"created_by,omitempty"`
	DisplayName  string    `json:"display_name,omitempty"`
	Experiment   string    `json:"experiment,omitempty"`
	// MaxAttempts is fixed too: were it a setting, an end could be undone.
	MaxAttempts int `json:"max_attempts"`

	// Attempts are the claims, in order; what the agent said of each is in it.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Cancel is a user's wish, made after the claim.
	Cancel *Cancel `json:"cancel,omitempty"`
	// Closed is the relay's own end of what is not claimed.
	Closed *Closed `json:"closed,omitempty"`
}

// Attempt is one claim of a job by a cluster. A cluster without a name stands
// for an attempt that a restored backup knows nothing of.
type Attempt struct {
	Cluster   string    `json:"cluster,omitempty"`
	ClaimedAt time.Time `json:"claimed_at"`
	// Started is when the command was first seen running.
	Started time.Time `json:"started,omitzero"`
	protocol.Progress
}

// Cancel is a request to end a claimed job.
type Cancel struct {
	At     time.Time        `json:"at"`
	By     string           `json:"by,omitempty"`
	Reason *protocol.Reason `json:"reason,omitempty"`
}

// Closed is the end that the relay gave to a job.
type Closed struct {
	At     time.Time        `json:"at"`
	State  protocol.State   `json:"state"`
	Reason *protocol.Reason `json:"reason,omitempty"`
}

// State derives the job's state from the facts, and the reason that was given.
func (s *Status) State() (protocol.State, *protocol.Reason) {
	if s.Closed != nil {
		return s.Closed.State, s.Closed.Reason
	}
	last := s.last()
	switch {
	case last == nil || s.again():
		return protocol.Queued, nil
	case last.End != nil:
		return last.End.State, last.End.Reason
	case s.Cancel != nil:
		return protocol.CancelRequested, s.Cancel.Reason
	}
	return last.State()
}

// last is the current attempt, nil before the first.
func (s *Status) last() *Attempt {
	if len(s.Attempts) == 0 {
		return nil
	}
	return &s.Attempts[len(s.Attempts)-1]
}

// attempt is the attempt of that number, nil where the cluster has none such.
func (s *Status) attempt(cluster string, number int) *Attempt {
	if number < 1 || number > len(s.Attempts) || s.Attempts[number-1].Cluster != cluster {
		return nil
	}
	return &s.Attempts[number-1]
}

// again reports whether the last attempt's end is one to try again after.
func (s *Status) again() bool {
	last := s.last()
	return last != nil && last.End != nil && last.End.Retry && s.Cancel == nil && len(s.Attempts) < s.MaxAttempts
}

// claimable reports whether the job waits for a claim.
func (s *Status) claimable() bool {
	return s.Closed == nil && (len(s.Attempts) == 0 || s.again())
}

// live is the attempt that is claimed and not ended, nil where there is none.
func (s *Status) live() *Attempt {
	if last := s.last(); s.Closed == nil && last != nil && last.End == nil {
		return last
	}
	return nil
}

// clone returns a copy that may be changed. Events are never changed in place.
func (s *Status) clone() Status {
	c := *s
	c.Attempts = slices.Clone(s.Attempts)
	return c
}

// claim gives the next attempt to the cluster and returns its number; false
// where the job is not to be had.
func (s *Status) claim(cluster string, now time.Time) (int, bool) {
	if !s.claimable() {
		return 0, false
	}
	s.Attempts = append(s.Attempts, Attempt{Cluster: cluster, ClaimedAt: now})
	return len(s.Attempts), true
}

// adopt records an attempt that the cluster holds and the record does not
// know, as after a restore of an older backup.
func (s *Status) adopt(cluster string, number int, now time.Time) bool {
	if s.Closed != nil || number <= len(s.Attempts) || s.last() != nil && s.last().End != nil && !s.again() {
		return false
	}
	for len(s.Attempts) < number-1 {
		s.Attempts = append(s.Attempts, Attempt{ClaimedAt: now})
	}
	s.Attempts = append(s.Attempts, Attempt{Cluster: cluster, ClaimedAt: now})
	return true
}

// cancel notes the wish of a user: final at once before the claim, a request
// after it. It reports whether anything changed.
func (s *Status) cancel(by string, reason *protocol.Reason, now time.Time) bool {
	switch {
	case s.claimable():
		return s.end(protocol.Canceled, reason, now)
	case s.live() != nil && s.Cancel == nil:
		s.Cancel = &Cancel{At: now, By: by, Reason: reason}
		return true
	}
	return false
}

// end closes a job that is not claimed.
func (s *Status) end(state protocol.State, reason *protocol.Reason, now time.Time) bool {
	if !s.claimable() {
		return false
	}
	s.Closed = &Closed{At: now, State: state, Reason: reason}
	return true
}

// What folding an event did.
type folding int

const (
	unknown    folding = iota // the cluster has no such attempt
	known                     // nothing new
	folded                    // the record changed
	conflicted                // the end contradicts the record's, which stands
)

// fold takes in what the cluster's agent said.
func (s *Status) fold(cluster string, e protocol.Event) folding {
	a := s.attempt(cluster, e.Attempt)
	if a == nil {
		return unknown
	}
	if a.Conflicts(e) {
		return conflicted
	}
	progress, changed := a.Fold(e)
	a.Progress = progress
	if e.State == protocol.Running && (a.Started.IsZero() || e.Time.Before(a.Started)) {
		a.Started, changed = e.Time, true
	}
	if changed {
		return folded
	}
	return known
}

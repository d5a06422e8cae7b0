package protocol

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Version orders what agents say of one attempt: first by the term of the
// leader that said it, then by that leader's own count.
type Version struct {
	Term uint64 `json:"term"`
	Seq  uint64 `json:"seq"`
}

// Compare is negative where v is older than w, positive where it is newer.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Term, w.Term), cmp.Compare(v.Seq, w.Seq))
}

// Ref names one attempt of a job. Attempts count from 1.
type Ref struct {
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
}

func (r Ref) String() string { return fmt.Sprintf("%s/%d", r.Job, r.Attempt) }

// Validate says what is wrong with the reference.
func (r Ref) Validate() error {
	if err := CheckName(r.Job); err != nil {
		return err
	}
	if r.Attempt < 1 || r.Attempt > MaxAttempts {
		return fmt.Errorf("attempt %d of job %s is not within 1 to %d", r.Attempt, r.Job, MaxAttempts)
	}
	return nil
}

// Event is one observation of one attempt in its cluster.
type Event struct {
	Ref
	Version
	State State `json:"state"`
	// Reason says why it waits or how it ended; nil when there is nothing to say.
	Reason *Reason   `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
	// ExitCode is the command's, of the rank that decided the end, where known.
	ExitCode *int `json:"exit_code,omitempty"`
	// Node is where the first rank runs, for people.
	Node string `json:"node,omitempty"`
	// Retry marks a Failed that is no fault of the job: the relay may start
	// the next attempt.
	Retry bool `json:"retry,omitempty"`
}

// Validate says what is wrong with the event.
func (e *Event) Validate() error {
	var errs []error
	if err := e.Ref.Validate(); err != nil {
		errs = append(errs, err)
	}
	if !e.State.observable() {
		errs = append(errs, fmt.Errorf("state %q is not one that an agent reports", Cut(string(e.State), 40)))
	}
	if e.Term == 0 {
		errs = append(errs, errors.New("term: is 0; a leader learns its term from the relay's answer to its first sync"))
	}
	if e.Retry && e.State != Failed {
		errs = append(errs, fmt.Errorf("retry: set on state %s; only Failed may be tried again", e.State))
	}
	if e.Reason != nil {
		errs = append(errs,
			checkLength("reason", e.Reason.Message, MaxReason+4),
			checkLength("reason's code", string(e.Reason.Code), MaxReasonCode))
	}
	errs = append(errs, checkLength("node", e.Node, MaxNode+4))
	return errors.Join(errs...)
}

// checkLength says that the text is longer than limit bytes.
func checkLength(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("%s: %d bytes, at most %d are allowed", what, len(text), limit)
	}
	return nil
}

// NewReason makes a reason, its message cut to what a message may carry.
func NewReason(code ReasonCode, format string, args ...any) *Reason {
	return &Reason{Code: code, Message: Cut(fmt.Sprintf(format, args...), MaxReason)}
}

package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// learn takes in the term that the relay gave the session.
func (l *Link) learn(s *session, term uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.term == term:
		return nil
	case term <= l.term:
		// What it would version could be taken for older than what was said.
		return fmt.Errorf("the relay gave term %d, this agent has had term %d", term, l.term)
	}
	if s.term == 0 {
		close(s.learnt)
	}
	s.term, l.term, l.status.Term = term, term, term
	return nil
}

// highestTerm is the highest that any session of this process had.
func (l *Link) highestTerm() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

// handOver passes on what the relay wants done. Attempts whose end waits to be
// told are passed over: the relay does not know of it yet.
func (l *Link) handOver(ctx context.Context, reply *protocol.SyncReply, deadline time.Time) {
	computes := make(map[string]protocol.Compute, len(reply.Computes))
	for _, c := range reply.Computes {
		computes[c.Name] = c
	}
	for _, start := range reply.Starts {
		ref := start.Ref()
		if l.outbox.ending(ref) {
			continue
		}
		if !time.Now().Before(deadline) {
			l.log.Warn().Stringer("attempt", ref).Msg("the start came too late; the relay will grant it again")
			continue
		}
		l.metrics.starts.Inc()
		compute, ok := computes[start.Job.Compute]
		if err := checkStart(&start); err != nil {
			l.refuse(ref, protocol.Undecodable, err)
		} else if !ok {
			l.refuse(ref, protocol.ComputeDeleted, fmt.Errorf("compute %s no longer exists", start.Job.Compute))
		} else {
			l.workloads.Start(ctx, start, compute, deadline)
		}
	}
	for _, cancel := range reply.Cancels {
		if !l.outbox.ending(cancel.Ref) {
			l.workloads.Cancel(ctx, cancel, computes[cancel.Compute])
		}
	}
	for _, missing := range reply.Missing {
		if !l.outbox.ending(missing.Ref) {
			l.workloads.Resolve(ctx, missing, computes[missing.Compute])
		}
	}
}

// checkStart says why a start cannot be used.
func checkStart(start *protocol.Start) error {
	ref := start.Ref()
	return errors.Join(ref.Validate(), start.Job.Validate())
}

// refuse ends an attempt that cannot be started.
func (l *Link) refuse(ref protocol.Ref, code protocol.ReasonCode, err error) {
	l.log.Warn().Err(err).Stringer("attempt", ref).Msg("the start cannot be used")
	l.Observe(protocol.Event{
		Ref: ref, State: protocol.Failed, Time: time.Now().UTC(),
		Reason: protocol.NewReason(code, "%v", err),
	})
}

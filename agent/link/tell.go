package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/trainrelay/trainrelay/protocol"
)

// tellAlways tells what waits in the outbox, one batch at a time, until ctx is
// done. It starts once the session has its term.
func (l *Link) tellAlways(ctx context.Context, s *session) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.learnt:
	}
	retry := newRetry()
	limit := protocol.MaxEvents
	for {
		batch := l.outbox.next(limit)
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-l.outbox.ready:
			}
			continue
		}
		err := l.tell(ctx, s, batch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			limit = protocol.MaxEvents
			continue
		case (refusedForGood(err) || errors.Is(err, protocol.ErrTooLarge)) && len(batch) > 1:
			limit = len(batch) / 2 // find the one that it is about
			continue
		case refusedForGood(err):
			l.outbox.putOff(batch[0].Ref)
			limit = protocol.MaxEvents
		}
		l.failed("events", err)
		if !sleep(ctx, retry.NextBackOff(), l.retryTell) {
			return nil
		}
	}
}

// tell gives the events their versions, sends them, and settles the answer.
func (l *Link) tell(ctx context.Context, s *session, batch []protocol.Event) error {
	s.version(batch)
	reply := new(protocol.EventReply)
	if err := request(ctx, l, protocol.VerbEvent, &protocol.EventBatch{Events: batch}, reply); err != nil {
		return err
	}
	if len(reply.Results) != len(batch) {
		return fmt.Errorf("the relay answered for %d of %d events", len(reply.Results), len(batch))
	}
	for i, result := range reply.Results {
		if result.Ref != batch[i].Ref {
			return fmt.Errorf("the relay answered for %s where %s was asked", result.Ref, batch[i].Ref)
		}
		if result.Outcome != protocol.Folded && result.Outcome != protocol.Unknown {
			return fmt.Errorf("the relay answered %q for %s", result.Outcome, result.Ref)
		}
	}
	for i, result := range reply.Results {
		l.outbox.settle(batch[i], result.Outcome)
		l.metrics.events.WithLabelValues(string(result.Outcome)).Inc()
		switch {
		case result.Outcome == protocol.Unknown:
			l.log.Warn().Stringer("attempt", result.Ref).Msg("the relay does not have this attempt, or gave it to another cluster; no more is told of it")
		case batch[i].State.Terminal():
			l.workloads.Folded(result.Ref)
			l.Wake() // its room is free
		}
	}
	return nil
}

// version stamps the events in their order.
func (s *session) version(batch []protocol.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		s.seq++
		batch[i].Version = protocol.Version{Term: s.term, Seq: s.seq}
	}
}

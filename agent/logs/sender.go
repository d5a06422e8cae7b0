package logs

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// gather is how long the first line waits for others to go with it.
	gather = 20 * time.Millisecond
	// chunkInterval is the least time between two chunks of a pod that are
	// not full.
	chunkInterval = 200 * time.Millisecond
	// unknownPause is how long, on average, a relay that does not have the
	// attempt is left alone: one that was restored from a backup learns of it.
	unknownPause = time.Minute
)

// sender ships the output of one rank, chunk by chunk.
type sender struct {
	submit  func(context.Context, *protocol.LogChunk) (*protocol.LogReply, error)
	metrics *metrics
	log     zerolog.Logger
	ref     protocol.Ref
	rank    int

	at      protocol.LogPosition // that the relay has reached
	rewound bool                 // the relay is elsewhere than what was shipped last
	stopped bool                 // the relay wants no more of this output
	last    time.Time            // when a chunk was answered
}

func newSender(l *Logs, log zerolog.Logger, pod Pod) *sender {
	return &sender{submit: l.opts.Send, metrics: l.metrics, log: log, ref: pod.Ref, rank: pod.Rank}
}

func (s *sender) chunk(from protocol.LogPosition) *protocol.LogChunk {
	return &protocol.LogChunk{Ref: s.ref, Rank: s.rank, From: from, To: from}
}

// locate asks for the position that the relay has reached.
func (s *sender) locate(ctx context.Context) bool {
	s.send(ctx, s.chunk(protocol.LogPosition{}))
	return ctx.Err() == nil && !s.stopped
}

// ship sends runs, gathered into chunks, until there are no more of them, the
// relay is elsewhere, or ctx is done.
func (s *sender) ship(ctx context.Context, runs <-chan run) {
	s.rewound = false
	next, more := <-runs
	for more {
		chunk := s.chunk(s.at)
		chunk.Gap, chunk.Data, chunk.To = next.gap, next.data, next.to
		due := time.NewTimer(max(gather, time.Until(s.last.Add(chunkInterval))))
		for waiting := true; waiting; {
			select {
			case <-due.C:
				waiting = false
				next.data = nil
			case next, more = <-runs:
				if waiting = more && len(chunk.Data)+len(next.data) <= protocol.MaxLogData; waiting {
					chunk.Data, chunk.To = append(chunk.Data, next.data...), next.to
				}
			}
		}
		due.Stop()
		if chunk.Gap != "" {
			s.metrics.gaps.Inc()
			s.log.Warn().Msg(chunk.Gap)
		}
		if !s.send(ctx, chunk) {
			return
		}
		if more && next.data == nil {
			next, more = <-runs
		}
	}
}

// send sends a chunk until it is answered, and reports whether to go on behind
// it. The relay may have it already: then its answer to an earlier try was lost.
func (s *sender) send(ctx context.Context, chunk *protocol.LogChunk) bool {
	retry := newRetry()
	for waited := false; ; waited = true {
		reply, err := s.submit(ctx, chunk)
		refusal, refused := errors.AsType[*protocol.Refusal](err)
		switch {
		case ctx.Err() != nil:
			return false
		case refused && !refusal.Temporary:
			s.log.Error().Err(err).Msg("the output is not shipped any further")
			s.stopped = true
			return false
		case err != nil:
			if !waited {
				s.log.Debug().Err(err).Msg("waiting for the relay to take output")
			}
			if !wait(ctx, retry.NextBackOff()) {
				return false
			}
			continue
		case reply.Unknown:
			s.log.Debug().Msg("the relay does not know the attempt; asking again later")
			if !wait(ctx, unknownPause/2+rand.N(unknownPause)) {
				return false
			}
			continue
		}
		if reply.Taken {
			s.metrics.bytes.Add(float64(len(chunk.Data)))
		}
		s.last, s.at = time.Now(), reply.At
		s.rewound = compare(reply.At, chunk.To) != 0
		s.stopped = reply.EOF
		return !s.rewound && !s.stopped
	}
}

package clusters

import (
	"context"

	"github.com/trainrelay/trainrelay/protocol"
)

// grant fills the starts: what was claimed and got lost on its way, then what
// the queue offers, as far as there is room in the cluster and space in the
// answer.
func (s *Service) grant(ctx context.Context, name string, c *cluster, rooms []protocol.Room, again []Claim, space *budget, reply *protocol.SyncReply) {
	mine := map[string]bool{}
	for _, target := range reply.Computes {
		mine[target.Name] = true
	}
	free := map[string]int{}
	for _, room := range rooms {
		if mine[room.Compute] {
			free[room.Compute] = room.Free
		}
	}
	if !s.grantAgain(ctx, c, again, free, space, reply) {
		reply.More = true
		return
	}
	for _, room := range rooms {
		if !s.claim(ctx, name, room.Compute, free[room.Compute], space, reply) {
			reply.More = true
			return
		}
		delete(free, room.Compute) // a compute that is listed twice has its room once
	}
	c.starts = protocol.Ref{} // all had their turn; the next answer begins anew
}

// grantAgain answers starts again whose answer the agent did not get, going on
// behind those that the answer before had. All of them count against the room.
// It reports whether there is space for more.
func (s *Service) grantAgain(ctx context.Context, c *cluster, again []Claim, free map[string]int, space *budget, reply *protocol.SyncReply) bool {
	for _, claim := range again {
		if _, listed := free[claim.Compute]; listed {
			free[claim.Compute]--
		}
	}
	for _, claim := range again {
		if _, listed := free[claim.Compute]; !listed || compare(claim.Ref, c.starts) <= 0 {
			continue
		}
		job, err := s.opts.Records.Spec(ctx, claim.Job)
		if err != nil {
			s.opts.Log.Error().Err(err).Stringer("attempt", claim.Ref).Msg("cannot grant an attempt again")
			continue
		}
		start := protocol.Start{Attempt: claim.Attempt, Job: job}
		if !fits(start, space, reply) {
			return false
		}
		reply.Starts = append(reply.Starts, start)
		c.starts = claim.Ref
		s.metrics.granted.WithLabelValues("again").Inc()
	}
	return true
}

// claim claims what the queue offers to a compute, at most n jobs. It reports
// whether there is space for more.
func (s *Service) claim(ctx context.Context, name, compute string, n int, space *budget, reply *protocol.SyncReply) bool {
	tried := map[string]bool{}
	for n > 0 {
		progress := false
		for _, job := range s.opts.Queue.Next(compute, n+len(tried)) {
			if n == 0 {
				return true
			}
			if tried[job] {
				continue
			}
			tried[job], progress = true, true
			start, ok, space := s.claimOne(ctx, name, job, space, reply)
			if !space {
				return false
			}
			if ok {
				reply.Starts = append(reply.Starts, start)
				s.metrics.granted.WithLabelValues("new").Inc()
				n--
			}
		}
		if !progress {
			return true
		}
	}
	return true
}

// claimOne claims one job, where its start fits into the answer.
func (s *Service) claimOne(ctx context.Context, name, job string, space *budget, reply *protocol.SyncReply) (start protocol.Start, ok, room bool) {
	spec, err := s.opts.Records.Spec(ctx, job)
	if err != nil {
		s.opts.Log.Error().Err(err).Str("job", job).Msg("cannot grant a job")
		return start, false, true
	}
	// The number of the attempt takes as many bytes as any other.
	start = protocol.Start{Attempt: protocol.MaxAttempts, Job: spec}
	if !fits(start, space, reply) {
		return start, false, false
	}
	start.Attempt, ok, err = s.opts.Records.Claim(ctx, name, job)
	if err != nil {
		s.opts.Log.Error().Err(err).Str("job", job).Msg("cannot claim a job")
	}
	return start, ok && err == nil, true
}

// fits reserves the space of a start.
func fits(start protocol.Start, space *budget, reply *protocol.SyncReply) bool {
	return len(reply.Starts) < protocol.MaxStarts && space.take(start)
}

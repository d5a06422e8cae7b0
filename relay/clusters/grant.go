package clusters

import (
	"context"
	"errors"

	"github.com/trainrelay/trainrelay/protocol"
)

// place is an instance type of a compute.
type place struct{ compute, instanceType string }

// grant fills the starts: what was claimed and got lost on its way, then what
// the queue offers, as far as there is room in the cluster and space in the
// answer.
func (s *Service) grant(ctx context.Context, name string, c *cluster, rooms []protocol.Room, again []Claim, space *budget, reply *protocol.SyncReply) {
	mine := map[string]bool{}
	for _, target := range reply.Computes {
		mine[target.Name] = true
	}
	free := map[place]int{}
	listed := map[string]bool{}
	for _, room := range rooms {
		if mine[room.Compute] {
			free[place{room.Compute, room.InstanceType}] = room.Free
			listed[room.Compute] = true
		}
	}
	if s.grantAgain(ctx, c, again, listed, free, space, reply) {
		reply.More = true
		return
	}
	if ctx.Err() != nil {
		return
	}
	for _, room := range rooms {
		at := place{room.Compute, room.InstanceType}
		more, err := s.claim(ctx, name, at, free[at], space, reply)
		if err != nil {
			// What fails for one job fails for all. The rest waits for the
			// next sync, not for one at once.
			s.opts.Log.Error().Err(err).Str("cluster", name).Msg("cannot grant more to the cluster now")
			return
		}
		if more {
			reply.More = true
			return
		}
		delete(free, at) // what is listed twice has its room once
	}
	c.starts = protocol.Ref{} // all had their turn; the next answer begins anew
}

// grantAgain answers starts again whose answer the agent did not get, going on
// behind those that the answer before had. All of them count against the room.
// Those of an instance type that the compute has lost are answered, too: the
// agent ends them and says why. It reports whether some are left for which there
// is no space.
func (s *Service) grantAgain(ctx context.Context, c *cluster, again []Claim, listed map[string]bool, free map[place]int, space *budget, reply *protocol.SyncReply) (more bool) {
	for _, claim := range again {
		free[place{claim.Compute, claim.InstanceType}]--
	}
	for _, claim := range again {
		if !listed[claim.Compute] || compare(claim.Ref, c.starts) <= 0 {
			continue
		}
		job, err := s.opts.Records.Spec(ctx, claim.Job)
		if err != nil {
			s.opts.Log.Error().Err(err).Stringer("attempt", claim.Ref).Msg("cannot grant an attempt again")
			if ctx.Err() != nil {
				return false
			}
			continue
		}
		start := protocol.Start{Attempt: claim.Attempt, Job: job, InstanceType: claim.InstanceType}
		if !fits(start, space, reply) {
			return true
		}
		reply.Starts = append(reply.Starts, start)
		c.starts = claim.Ref
		s.metrics.granted.WithLabelValues("again").Inc()
	}
	return false
}

// spareOffers is how many offers of the queue may turn out not to be had any
// more, before the rest waits for the next sync.
const spareOffers = 50

// claim claims what the queue offers to an instance type, at most n jobs. It reports
// whether some are left for which there is no space. It stops at an error.
func (s *Service) claim(ctx context.Context, name string, at place, n int, space *budget, reply *protocol.SyncReply) (more bool, err error) {
	if n <= 0 {
		return false, nil
	}
	for _, job := range s.opts.Queue.Next(at.compute, at.instanceType, min(n, protocol.MaxStarts)+spareOffers) {
		start, err := s.claimOne(ctx, name, job, at, space, reply)
		switch {
		case errors.Is(err, ErrGone):
			s.opts.Log.Warn().Err(err).Str("job", job).Msg("cannot grant a job")
			continue
		case errors.Is(err, errNoSpace):
			return true, nil
		case err != nil:
			return false, err
		}
		reply.Starts = append(reply.Starts, start)
		s.metrics.granted.WithLabelValues("new").Inc()
		if n--; n == 0 {
			break
		}
	}
	return false, nil
}

// errNoSpace: the start does not fit into the answer.
var errNoSpace = errors.New("no space")

// claimOne claims one job, where its start fits into the answer.
func (s *Service) claimOne(ctx context.Context, name, job string, at place, space *budget, reply *protocol.SyncReply) (protocol.Start, error) {
	spec, err := s.opts.Records.Spec(ctx, job)
	if err != nil {
		return protocol.Start{}, err
	}
	// The number of the attempt takes as many bytes as any other.
	start := protocol.Start{Attempt: protocol.MaxAttempts, Job: spec, InstanceType: at.instanceType}
	before := *space
	if !fits(start, space, reply) {
		return start, errNoSpace
	}
	attempt, ok, err := s.opts.Records.Claim(ctx, name, job)
	if err == nil && !ok {
		err = ErrGone
	}
	if err != nil {
		*space = before
		return start, err
	}
	start.Attempt = attempt
	return start, nil
}

// fits reserves the space of a start.
func fits(start protocol.Start, space *budget, reply *protocol.SyncReply) bool {
	return len(reply.Starts) < protocol.MaxStarts && space.take(start)
}

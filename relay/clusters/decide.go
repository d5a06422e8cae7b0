package clusters

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/trainrelay/trainrelay/protocol"
)

// Bytes of an answer: a reserve for its frame, signature included, and what
// cancels and missing attempts may take each, so that there is always space for
// a start.
const (
	frameBytes = 8 << 10
	asideBytes = 32 << 10
)

// budget is the space left in an answer.
type budget struct{ left int }

// take reserves the space of v, where there is enough.
func (b *budget) take(v any) bool {
	data, err := json.Marshal(v)
	if err != nil || len(data)+1 > b.left {
		return false
	}
	b.left -= len(data) + 1
	return true
}

// decide fills the answer to a sync that lists the cluster's unfinished
// attempts.
func (s *Service) decide(ctx context.Context, name string, c *cluster, sync *protocol.Sync, reply *protocol.SyncReply) {
	held := make(map[protocol.Ref]bool, len(sync.Held))
	var cancels []protocol.Cancel
	unknown := 0
	for _, ref := range sync.Held {
		held[ref] = true
		known, leftover := s.opts.Records.Held(name, ref)
		if !known {
			unknown++
		}
		if leftover {
			cancels = append(cancels, protocol.Cancel{Ref: ref, Ended: true})
		}
	}
	s.opts.Records.Seen(name, sync, unknown)

	// An agent with problems does not see its cluster: what it does not hold
	// says nothing.
	sees := len(sync.Problems) == 0
	var missing []protocol.Missing
	var again []Claim
	for _, claim := range s.opts.Records.Claims(name) {
		switch {
		case claim.Cancel != nil:
			cancels = append(cancels, protocol.Cancel{Ref: claim.Ref, Compute: claim.Compute, Reason: claim.Cancel})
		case held[claim.Ref] || !sees:
		case claim.Latest == nil:
			again = append(again, claim)
		default:
			missing = append(missing, protocol.Missing{Ref: claim.Ref, Compute: claim.Compute, Latest: claim.Latest})
		}
	}

	slices.SortFunc(cancels, func(a, b protocol.Cancel) int { return compare(a.Ref, b.Ref) })

	space := budget{protocol.MaxMessage - frameBytes - 2*asideBytes}
	space.take(reply.Computes)
	space.take(reply.Trust)
	space.take(reply.Extension)
	var cut [2]bool
	reply.Cancels, c.cancels, cut[0] = part(cancels, protocol.MaxCancels, c.cancels, func(c protocol.Cancel) protocol.Ref { return c.Ref })
	reply.Missing, c.missing, cut[1] = part(missing, protocol.MaxCancels, c.missing, func(m protocol.Missing) protocol.Ref { return m.Ref })
	reply.More = cut[0] || cut[1]
	if sees {
		s.grant(ctx, name, c, sync.Room, again, &space, reply)
	}
}

func compare(a, b protocol.Ref) int {
	return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Attempt, b.Attempt))
}

// part takes from a sorted list that may be too long for one answer what fits,
// going on behind what the answer before ended with, so that every item has
// its turn. It returns what this one ended with, and whether there is more.
func part[T any](items []T, limit int, after protocol.Ref, ref func(T) protocol.Ref) (taken []T, end protocol.Ref, cut bool) {
	space := budget{asideBytes}
	for _, item := range items {
		if compare(ref(item), after) <= 0 {
			continue
		}
		if len(taken) == limit || !space.take(item) {
			return taken, end, true
		}
		taken, end = append(taken, item), ref(item)
	}
	return taken, protocol.Ref{}, false
}

package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// requestTimeout bounds one request. It leaves half of StartDeadline to
	// the creation of what an answer grants.
	requestTimeout = protocol.StartDeadline / 2
	// syncGap is the least time between two syncs that were asked for: a burst
	// of changes makes the first sync at once and one more for the rest.
	syncGap = 25 * time.Millisecond
	// unsyncedInterval is the time to the next sync while the cluster is out
	// of step with its API server, or refuses everything.
	unsyncedInterval = 5 * time.Second
	// maxHeldBytes bounds what a page of attempts takes of a message, whatever
	// their names, with space for the rest of the sync.
	maxHeldBytes = 144 << 10
	// refBytes is what an attempt takes besides the name of its job, at most:
	// {"job":"","attempt":10},
	refBytes = 24
)

// newRetry returns delays with full jitter, of up to half a minute, for ever.
func newRetry() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1), // 0 to twice the interval
		backoff.WithMaxInterval(15*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// syncAlways syncs whenever a sync is due, until ctx is done or the relay
// refuses the session for good.
func (l *Link) syncAlways(ctx context.Context, s *session) error {
	retry := newRetry()
	for {
		sent := time.Now()
		take(l.wake) // this sync says it all
		next, err := l.sync(ctx, s)
		switch {
		case ctx.Err() != nil:
			return nil
		case refusedForGood(err):
			l.failed("sync", err)
			return fmt.Errorf("link: the relay refuses this leader: %w", err)
		case err != nil:
			next = retry.NextBackOff()
			l.failed("sync", err)
			l.metrics.syncs.WithLabelValues("failed").Inc()
			if !sleep(ctx, next, l.retrySync) {
				return nil
			}
			continue
		}
		retry.Reset()
		l.synced(sent)
		if !l.awaitSync(ctx, next, sent.Add(syncGap)) {
			return nil
		}
	}
}

// awaitSync waits until the next sync is due: when the interval is over, the
// connection is back, or one is asked for, that not before earliest.
func (l *Link) awaitSync(ctx context.Context, interval time.Duration, earliest time.Time) bool {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.retrySync:
	case <-l.wake:
		return sleep(ctx, time.Until(earliest), nil)
	}
	return ctx.Err() == nil
}

// sync tells the relay what the cluster holds and acts on the answer. It
// returns the time to the next sync.
func (l *Link) sync(ctx context.Context, s *session) (time.Duration, error) {
	problem, refusing := l.workloads.Synced(), l.workloads.Refusing()
	l.outOfStep(problem)
	l.refusing(refusing)
	held := l.held(false)
	l.outbox.retain(held)
	req := &protocol.Sync{Info: l.info(), Held: page(held), Last: true}
	switch {
	case problem != nil:
		// Never a full sync: what this one does not hold may exist.
		req.Problems = problems(problem)
	case s.full:
		return l.fullSync(ctx, s)
	case len(held) > len(req.Held):
		req.Problems = []string{fmt.Sprintf("the cluster holds %d unfinished attempts; new ones are taken when there are fewer than %d", len(held), len(req.Held))}
	case refusing != nil:
		req.Problems = problems(refusing)
	default:
		req.Room = l.room(spare(held))
	}
	next, needFull, err := l.exchange(ctx, s, req, problem == nil)
	if err != nil {
		return 0, err
	}
	if needFull {
		s.full, next = true, 0
	}
	switch {
	case problem != nil: // also where the relay asks for a full sync
		next = unsyncedInterval
	case refusing != nil:
		next = min(next, unsyncedInterval)
	}
	return next, nil
}

// problems is a problem as a sync tells it, cut where it is too long.
func problems(problem error) []string {
	return []string{protocol.NewReason("", "%v", problem).Message}
}

// fullSync lists every attempt with a Job, page by page.
func (l *Link) fullSync(ctx context.Context, s *session) (time.Duration, error) {
	l.log.Info().Msg("the relay asks for everything that the cluster holds")
	held := l.held(true)
	for {
		part := page(held)
		held = held[len(part):]
		req := &protocol.Sync{Info: l.info(), Held: part, Full: true, Last: len(held) == 0}
		next, needFull, err := l.exchange(ctx, s, req, true)
		switch {
		case err != nil:
			return 0, err
		case !req.Last:
			continue
		case needFull:
			return 0, errors.New("the relay asks for a full sync again") // it restarted between the pages
		}
		// Only now does the relay know every attempt that it may be told of.
		s.full = false
		l.outbox.forget()
		l.workloads.Resend()
		return next, nil
	}
}

// page is what a sync can list of the attempts, the first of them.
func page(held []protocol.Ref) []protocol.Ref {
	size := 0
	for i, ref := range held {
		if size += refBytes + len(ref.Job); i == protocol.MaxHeld || size > maxHeldBytes {
			return held[:i]
		}
	}
	return held
}

// spare is how many attempts more a sync can list, whatever their names.
func spare(held []protocol.Ref) int {
	left := maxHeldBytes
	for _, ref := range held {
		left -= refBytes + len(ref.Job)
	}
	return max(0, min(protocol.MaxHeld-len(held), left/(refBytes+protocol.MaxName)))
}

// held are the attempts of the workloads, and those whose end waits to be
// told. Asked in this order, an end on its way to the relay is not overlooked.
func (l *Link) held(full bool) []protocol.Ref {
	held := l.workloads.Held(full)
	return union(held, l.outbox.ends())
}

// exchange sends one sync and hands its answer over, or only learns from it
// where the workloads are not usable.
func (l *Link) exchange(ctx context.Context, s *session, req *protocol.Sync, usable bool) (next time.Duration, needFull bool, err error) {
	req.Nonce = rand.Text()
	req.Session = s.id
	req.Nudge = l.nudge
	req.Term = l.highestTerm()
	newest := l.check()
	if newest != s.checked {
		req.Check = newest
	}
	found := s.found
	if req.Check == nil { // one of the two at a time: a message has its bounds
		found = l.found()
	}
	if found != s.found {
		req.Found = found
	}
	l.guard.state(req)
	sent := time.Now()
	answer, err := send(ctx, l, protocol.VerbSync, req)
	if err != nil {
		return 0, false, err
	}
	took := time.Since(sent)
	reply, err := l.believe(ctx, answer, req, sent)
	if err != nil {
		return 0, false, err
	}
	if err := l.learn(s, reply.Term); err != nil {
		return 0, false, err
	}
	s.checked, s.found = newest, found
	if reply.NeedFull { // it restarted, and has forgotten
		s.checked, s.found = nil, nil
	}
	l.metrics.syncs.WithLabelValues("answered").Inc()
	l.metrics.syncSeconds.Observe(took.Seconds())

	fresh := l.setComputes(reply.Computes, took)
	l.wanted(reply.Computes, reply.Extension)
	if usable {
		l.handOver(ctx, reply, sent.Add(validity(reply)))
	}
	l.adopt(ctx, reply.Trust)
	if usable && (reply.More || fresh) {
		return 0, reply.NeedFull, nil
	}
	return protocol.SyncInterval - mathrand.N(protocol.SyncInterval/10), reply.NeedFull, nil
}

// room is what the computes that the relay named can take, limit attempts in
// all: a sync must be able to list what the cluster holds.
func (l *Link) room(limit int) []protocol.Room {
	l.mu.Lock()
	computes := l.computes
	l.mu.Unlock()
	room := slices.Clone(l.workloads.Room(computes))
	for i := range room {
		room[i].Free = max(0, min(room[i].Free, limit))
		limit -= room[i].Free
	}
	return room[:min(len(room), protocol.MaxRooms)]
}

// setComputes keeps what was answered, and reports whether there are others than before, whose room the
// relay does not know yet.
func (l *Link) setComputes(computes []protocol.Compute, took time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trip = took
	fresh := slices.ContainsFunc(computes, func(c protocol.Compute) bool {
		return !slices.ContainsFunc(l.computes, func(old protocol.Compute) bool {
			return old.Name == c.Name && old.Namespace == c.Namespace && old.Revision == c.Revision
		})
	})
	l.computes = computes
	return fresh
}

// union is a followed by those of b that a lacks.
func union(a, b []protocol.Ref) []protocol.Ref {
	if len(b) == 0 {
		return a
	}
	seen := make(map[protocol.Ref]bool, len(a))
	for _, ref := range a {
		seen[ref] = true
	}
	a = slices.Clip(a)
	for _, ref := range b {
		if !seen[ref] {
			a = append(a, ref)
		}
	}
	return a
}

// take empties a channel that holds one signal.
func take(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// sleep waits for d, cut short by a signal on early, and reports whether ctx
// is still live.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-early:
	}
	return ctx.Err() == nil
}

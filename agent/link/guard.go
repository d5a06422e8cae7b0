package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// breachLogEvery is how often breaches of one kind are logged, at most.
	breachLogEvery = 10 * time.Minute
	// saveTimeout bounds the saving and reading of what is trusted.
	saveTimeout = 10 * time.Second
	// maxIncident bounds the text of an incident in a sync, in bytes.
	maxIncident = 512
)

// guard decides which answers are believed, and keeps count of the others
// until the relay was told.
type guard struct {
	save func(context.Context, protocol.Trust) error
	load func(context.Context) (protocol.Trust, error)

	mu        sync.Mutex
	trust     protocol.Trust
	incidents map[protocol.BreachKind]protocol.Incident // not told yet
	last      map[protocol.BreachKind]time.Time         // of each kind, the newest
	logged    map[protocol.BreachKind]time.Time
}

// state says in a sync what is trusted, and which answers were not believed.
func (g *guard) state(req *protocol.Sync) {
	g.mu.Lock()
	defer g.mu.Unlock()
	req.Trust, req.Keys = g.trust.Digest(), nil
	for _, key := range g.trust.Keys {
		req.Keys = append(req.Keys, key.ID())
	}
	req.Incidents = slices.SortedFunc(maps.Values(g.incidents), func(a, b protocol.Incident) int { return cmp.Compare(a.Kind, b.Kind) })
}

// judge reads the answer to a sync that was sent at that time. The error is a
// *protocol.Breach where it must not be believed.
func (g *guard) judge(answer []byte, cluster string, req *protocol.Sync, sent time.Time) (*protocol.SyncReply, error) {
	g.mu.Lock()
	keys := g.trust.Keys
	g.mu.Unlock()
	reply := new(protocol.SyncReply)
	if err := protocol.DecodeSigned(answer, reply, keys); err != nil {
		return nil, err
	}
	switch late := time.Since(sent); {
	case reply.Cluster != cluster:
		return nil, &protocol.Breach{Kind: protocol.Misaddressed, Message: fmt.Sprintf("it is for cluster %s", reply.Cluster)}
	case reply.Nonce != req.Nonce:
		return nil, &protocol.Breach{Kind: protocol.Replayed, Message: "it answers another sync than the outstanding one"}
	case late >= validity(reply):
		return nil, &protocol.Breach{Kind: protocol.Expired, Message: fmt.Sprintf("it came %v after its sync was sent, and was valid for %v", late.Round(time.Millisecond), validity(reply))}
	}
	return reply, nil
}

// validity is how long after sending the sync its answer may be acted on.
func validity(reply *protocol.SyncReply) time.Duration {
	return min(time.Duration(reply.ValidSeconds)*time.Second, protocol.StartDeadline)
}

// note counts a breach, and reports whether it is worth a line in the log.
func (g *guard) note(b *protocol.Breach, now time.Time) (worth bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.incidents == nil {
		g.incidents, g.last, g.logged = map[protocol.BreachKind]protocol.Incident{}, map[protocol.BreachKind]time.Time{}, map[protocol.BreachKind]time.Time{}
	}
	i, ok := g.incidents[b.Kind]
	if !ok {
		i = protocol.Incident{Time: now.UTC().Round(0), Kind: b.Kind}
	}
	i.Message = protocol.Cut(b.Message, maxIncident)
	i.Count++
	g.incidents[b.Kind], g.last[b.Kind] = i, now.UTC().Round(0)
	if at, ok := g.logged[b.Kind]; ok && now.Sub(at) < breachLogEvery {
		return false
	}
	g.logged[b.Kind] = now
	return true
}

// told forgets the incidents that the relay was told of. What came meanwhile is
// another incident, of a later time.
func (g *guard) told(incidents []protocol.Incident) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, was := range incidents {
		now := g.incidents[was.Kind]
		if now.Count -= was.Count; now.Count <= 0 {
			delete(g.incidents, was.Kind)
			continue
		}
		now.Time = g.last[was.Kind]
		g.incidents[was.Kind] = now
	}
}

// believe reads the answer to a sync, or notes why it is not believed.
func (l *Link) believe(ctx context.Context, answer []byte, req *protocol.Sync, sent time.Time) (*protocol.SyncReply, error) {
	reply, err := l.guard.judge(answer, l.cluster, req, sent)
	breach, isBreach := errors.AsType[*protocol.Breach](err)
	switch {
	case isBreach:
		l.breached(breach)
		if breach.Kind == protocol.UnknownKey {
			l.reloadTrust(ctx)
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	l.guard.told(req.Incidents)
	l.mu.Lock()
	l.status.Breach = ""
	l.mu.Unlock()
	return reply, nil
}

// breached notes an answer that was not believed.
func (l *Link) breached(b *protocol.Breach) {
	l.metrics.breaches.WithLabelValues(string(b.Kind)).Inc()
	l.mu.Lock()
	l.status.Breach = b.Error()
	l.status.Breaches++
	count := l.status.Breaches
	l.mu.Unlock()
	if l.guard.note(b, time.Now()) {
		l.log.Error().Str("kind", string(b.Kind)).Str("cause", b.Message).Int("refused", count).
			Msg("security incident: an answer that claims to be the relay's was not believed, and nothing in it was done")
	}
}

// adopt trusts from now on what the relay asks for, once that is saved. Where
// it cannot be saved, the next answer brings it again.
func (l *Link) adopt(ctx context.Context, next *protocol.Trust) {
	g := l.guard
	g.mu.Lock()
	known := next == nil || next.Digest() == g.trust.Digest()
	g.mu.Unlock()
	if known {
		l.trusted(nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := g.save(ctx, *next); err != nil {
		l.trusted(fmt.Errorf("save what the relay asks to trust: %w", err))
		return
	}
	g.mu.Lock()
	g.trust = *next
	g.mu.Unlock()
	l.trusted(nil)
	l.log.Info().Str("keys", keyIDs(next)).Str("trust", next.Digest()).Msg("the relay's keys or its authority changed; trusted from now on")
}

// reloadTrust takes what another pod that led may have saved.
func (l *Link) reloadTrust(ctx context.Context) {
	g := l.guard
	if g.load == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	saved, err := g.load(ctx)
	if err == nil {
		err = saved.Validate()
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return // leading ends
	case err != nil:
		l.log.Warn().Err(err).Msg("cannot read what is to be trusted; going on with what is known")
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trust = saved
}

// trusted notes why what the relay asks to trust does not count, nil for none.
func (l *Link) trusted(problem error) {
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	l.mu.Lock()
	news := l.status.Trust != text
	l.status.Trust = text
	l.mu.Unlock()
	switch {
	case problem == nil:
		l.metrics.unsaved.Set(0)
	case news:
		l.log.Error().Err(problem).Msg("the relay's new keys do not count yet; trying again with every sync")
		fallthrough
	default:
		l.metrics.unsaved.Set(1)
	}
}

// keyIDs names the keys, for people.
func keyIDs(t *protocol.Trust) string {
	ids := make([]string, len(t.Keys))
	for i, key := range t.Keys {
		ids[i] = key.ID()
	}
	return strings.Join(ids, " ")
}

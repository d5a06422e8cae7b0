package broker

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
)

// lanes are the ways in of the clusters' requests: each is a connection of its
// own, so that its overflow, here or at the server, costs that cluster's requests
// and nobody else's. There are as many as clusters that ever connected.
type lanes struct {
	mu     sync.Mutex
	of     map[string]*nats.Conn // nil for one that is being opened
	closed bool
}

// Bounds of what waits in a lane to be looked at, which takes microseconds.
const (
	maxWaiting      = 4096
	maxWaitingBytes = 64 * protocol.MaxMessage
)

// opening bounds how long the server that asks about a cluster's first agent is
// kept waiting for its lane.
const opening = 2 * time.Second

// Listen takes the requests of these clusters from now on, and of others from
// when they connect; Serve answers them. It comes before Admit, so that no
// agent asks where nobody listens.
func (b *Broker) Listen(clusters ...string) error {
	for _, cluster := range append(clusters, checkCluster) {
		if err := b.openLane(cluster); err != nil {
			return err
		}
	}
	return nil
}

// welcome opens a cluster's lane, before its first agent may ask.
func (b *Broker) welcome(cluster string) {
	if err := b.openLane(cluster); err != nil {
		b.opts.Log.Error().Err(err).Msg("an agent may not be answered; trying again when it connects again")
	}
}

func (b *Broker) openLane(cluster string) error {
	if !b.lanes.begin(cluster) {
		return nil
	}
	conn, err := b.dial("relay's lane of "+cluster, b.keys.relay)
	if err == nil {
		var sub *nats.Subscription
		if sub, err = conn.QueueSubscribe(protocol.UpSubject(cluster, "*"), queueGroup, b.triage); err == nil {
			err = sub.SetPendingLimits(maxWaiting, maxWaitingBytes)
		}
		if err == nil {
			err = conn.FlushTimeout(opening)
		}
	}
	if b.lanes.end(cluster, conn, err == nil) || err == nil {
		return nil
	}
	return fmt.Errorf("listen for agents of cluster %s: %w", cluster, err)
}

// begin reports whether the cluster's lane is for the caller to open.
func (l *lanes) begin(cluster string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, is := l.of[cluster]; is || l.closed {
		return false
	}
	l.of[cluster] = nil
	return true
}

// end keeps a lane that was opened, and closes one that was not, or too late.
func (l *lanes) end(cluster string, conn *nats.Conn, opened bool) (stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if opened && !l.closed {
		l.of[cluster] = conn
		return false
	}
	delete(l.of, cluster)
	if conn != nil {
		conn.Close()
	}
	return l.closed
}

// close opens no lane any more.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// connections are those of the lanes; nil for one that is being opened.
func (l *lanes) connections() []*nats.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.of))
}

// triage says at once what becomes of a request: it is passed on to Serve, or
// refused for now. Nothing here waits.
func (b *Broker) triage(m *nats.Msg) {
	cluster, verb, ok := protocol.ParseUpSubject(m.Subject)
	switch {
	case !ok:
	case cluster == checkCluster:
		b.answerCheck(m)
	case b.quota.coolingDown(cluster): // what was under way when it was cut off
		b.metrics.requests.WithLabelValues("deferred").Inc()
	default:
		if err := b.enter(call{m, cluster, verb}); err != nil {
			b.metrics.requests.WithLabelValues("deferred").Inc()
			b.putOff(m, cluster, err)
		}
	}
}

// enter passes a request on, or says which bound was reached.
func (b *Broker) enter(c call) error {
	if err := b.quota.take(c.cluster, len(c.m.Data)); err != nil {
		return err
	}
	if c.m.Reply == "" { // it cannot be answered, but counts
		b.quota.give(c.cluster)
		return nil
	}
	select {
	case b.slots <- struct{}{}:
		b.requests <- c // has space for every slot
		return nil
	default:
		b.quota.give(c.cluster)
		return fmt.Errorf("the relay has %d requests under way, which is the most at the same time: ask again in a moment", maxRequests)
	}
}

// done takes back what a request was given.
func (b *Broker) done(c call) {
	b.quota.give(c.cluster)
	<-b.slots
}

// putOff refuses a request for now, or cuts its cluster off where it asks
// without end.
func (b *Broker) putOff(m *nats.Msg, cluster string, why error) {
	dropped, err := m.Sub.Dropped()
	if err != nil {
		return // the relay stops
	}
	if b.quota.over(cluster, len(m.Data), dropped) {
		b.cutOff(cluster)
		return
	}
	if m.Reply != "" {
		b.respond(m, refusal(why.Error(), true))
	}
}

// cutOff cuts all connections of a cluster that floods the relay; for a while
// it is not let in.
func (b *Broker) cutOff(cluster string) {
	if !b.quota.cool(cluster) {
		return
	}
	b.metrics.floods.Inc()
	b.opts.Log.Error().Str("cluster", cluster).Stringer("for", coolDown).
		Msg("a cluster's agents flood the relay: it is cut off for a while; if it comes again, disconnect it and look who has its credential")
	for _, key := range b.callout.connections.keys() {
		if its, ok := b.callout.cluster(key); ok && its == cluster {
			b.Disconnect(key)
		}
	}
}

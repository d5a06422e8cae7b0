package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
)

// Handler answers one request of a cluster's agent. It always returns an
// answer; bad says what is wrong with a request that cannot be used, which is
// then kept as a dead letter.
type Handler func(ctx context.Context, cluster, verb string, data []byte) (answer []byte, bad error)

// Bounds of the requests that are answered at the same time. An agent above
// its share is told to come back, so that it cannot keep others waiting.
const (
	maxRequests           = 128
	maxRequestsPerCluster = 32
	queueGroup            = "relay"
)

// call is a request that is to be answered. It has a slot, and a share of its
// cluster's quota.
type call struct {
	m             *nats.Msg
	cluster, verb string
}

// storageCheck is how often the broker looks whether its storage still works.
const storageCheck = time.Second

// Serve answers the agents' requests, after Listen, until ctx is done, and
// returns when those at hand are answered. It returns an error when the broker
// can store nothing any more.
func (b *Broker) Serve(ctx context.Context, handle Handler) error {
	var running sync.WaitGroup
	defer running.Wait()
	check := time.NewTicker(storageCheck)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
			if err := b.storage(); err != nil {
				return err
			}
		case c := <-b.requests:
			running.Go(func() {
				defer b.done(c)
				// What is at hand when the relay stops is still answered.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
				defer cancel()
				b.answer(ctx, c.m, c.cluster, c.verb, handle)
			})
		}
	}
}

// answer handles one request. A panic costs that request, not the relay.
func (b *Broker) answer(ctx context.Context, m *nats.Msg, cluster, verb string, handle Handler) {
	defer func() {
		if p := recover(); p != nil {
			b.opts.Log.Error().Str("cluster", cluster).Str("verb", verb).Any("panic", p).Stack().Msg("request failed")
			b.deadLetter(ctx, m, fmt.Errorf("internal error: %v", p))
			b.respond(m, refusal("internal error; the relay's log has it", true))
		}
	}()
	answer, bad := handle(ctx, cluster, verb, m.Data)
	if bad != nil {
		b.deadLetter(ctx, m, bad)
	} else {
		b.metrics.requests.WithLabelValues("answered").Inc()
	}
	b.respond(m, answer)
}

func (b *Broker) respond(m *nats.Msg, answer []byte) {
	if err := m.Respond(answer); err != nil {
		b.opts.Log.Warn().Err(err).Str("subject", m.Subject).Msg("cannot answer; the agent will ask again")
	}
}

// refusal is an encoded refusal.
func refusal(message string, temporary bool) []byte {
	data, err := protocol.Encode(&protocol.Refusal{Message: message, Temporary: temporary})
	if err != nil { // a refusal of ours is always short and valid
		panic(err)
	}
	return data
}

// Nudge asks the agent of the cluster, which listens for word, to sync now. It
// may get lost.
func (b *Broker) Nudge(cluster, word string) error {
	return b.conn.Publish(protocol.NudgeSubject(cluster, word), nil)
}

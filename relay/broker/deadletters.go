package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DeadLetters is the stream of agents' messages that could not be used. Their
// header Reason says why, Subject where they were sent to.
const DeadLetters = "DEADLETTERS"

const (
	deadPrefix    = "dead."
	headerReason  = "Reason"
	headerSubject = "Subject"
	maxReason     = 1 << 10
)

func (b *Broker) makeDeadLetters(ctx context.Context) error {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     DeadLetters,
		Subjects: []string{deadPrefix + ">"},
		MaxBytes: 32 << 20,
		MaxAge:   14 * 24 * time.Hour,
		// One cluster's junk does not push out another's.
		MaxMsgsPerSubject: 200,
		Discard:           jetstream.DiscardOld,
	})
	if err != nil {
		return fmt.Errorf("make the stream %s: %w", DeadLetters, err)
	}
	return nil
}

// deadLetter keeps a message that cannot be used, for people to look at. It is
// a help, not a promise: where it cannot be kept, the log has the reason.
func (b *Broker) deadLetter(ctx context.Context, m *nats.Msg, bad error) {
	b.metrics.requests.WithLabelValues("dead").Inc()
	b.metrics.deadLetters.Inc()
	// A header's value is one line.
	reason := strings.Join(strings.Fields(bad.Error()), " ")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	b.opts.Log.Warn().Str("subject", m.Subject).Int("bytes", len(m.Data)).Str("reason", reason).Msg("cannot use a message; kept as dead letter")
	letter := nats.NewMsg(deadPrefix + m.Subject)
	letter.Header.Set(headerReason, reason)
	letter.Header.Set(headerSubject, m.Subject)
	letter.Data = m.Data
	if _, err := b.js.PublishMsg(ctx, letter); err != nil {
		b.opts.Log.Error().Err(err).Str("subject", m.Subject).Msg("cannot keep the dead letter")
	}
}

package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

// DeadLetters is the stream of agents' messages that could not be used, of long
// ones their beginning. Their header Reason says why, Subject where they were
// sent to, Length how many bytes they had.
const DeadLetters = "DEADLETTERS"

const (
	deadPrefix    = "dead."
	headerReason  = "Reason"
	headerSubject = "Subject"
	headerLength  = "Length"
	maxReason     = 1 << 10
)

// Bounds of the stream: two hundred clusters may send nothing but junk, and
// none pushes out what another one sent.
const (
	maxLetter         = 8 << 10 // bytes kept of a message
	lettersPerSubject = 10      // of a cluster and a verb
	maxLetters        = 64 << 20
)

func (b *Broker) makeDeadLetters(ctx context.Context) error {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              DeadLetters,
		Subjects:          []string{deadPrefix + ">"},
		MaxBytes:          maxLetters,
		MaxAge:            14 * 24 * time.Hour,
		MaxMsgsPerSubject: lettersPerSubject,
		Discard:           jetstream.DiscardOld,
	})
	if err != nil {
		return fmt.Errorf("make the stream %s: %w", DeadLetters, err)
	}
	return nil
}

// deadLetter keeps a message that cannot be used, for people to look at. It is
// a help, not a promise: where it cannot be kept, the log has the reason, and of
// a cluster that sends many only some are looked at.
func (b *Broker) deadLetter(ctx context.Context, m *nats.Msg, bad error) {
	b.metrics.requests.WithLabelValues("dead").Inc()
	b.metrics.deadLetters.Inc()
	if cluster, _, ok := protocol.ParseUpSubject(m.Subject); ok && !b.quota.letter(cluster) {
		return // whatever it sends, it fills neither the log nor the disk's time
	}
	// A header's value is one line.
	reason := strings.Join(strings.Fields(bad.Error()), " ")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	b.opts.Log.Warn().Str("subject", m.Subject).Int("bytes", len(m.Data)).Str("reason", reason).Msg("cannot use a message; kept as dead letter")
	letter := nats.NewMsg(deadPrefix + m.Subject)
	letter.Header.Set(headerReason, reason)
	letter.Header.Set(headerSubject, m.Subject)
	letter.Header.Set(headerLength, strconv.Itoa(len(m.Data)))
	letter.Data = m.Data[:min(len(m.Data), maxLetter)]
	if _, err := b.js.PublishMsg(ctx, letter); err != nil {
		b.opts.Log.Error().Err(err).Str("subject", m.Subject).Msg("cannot keep the dead letter")
	}
}

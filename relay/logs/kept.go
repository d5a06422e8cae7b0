package logs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// source is one rank of one attempt.
type source struct {
	job           string
	attempt, rank int
}

// kept is a chunk as the stream has it.
type kept struct {
	source
	seq     uint64
	behind  uint64    // the sequence of the rank's chunk before; 0 for none
	pending uint64    // how many follow of what the reader asked for
	stored  time.Time // when it was taken
	// time is when the last line of it was written, by the clock of its node.
	time    time.Time
	cluster string // empty where it was kept before clusters were
	text    []byte
	gap     string
	amid    bool // it begins amid a line
	eof     bool
}

// parse reads a kept chunk.
func parse(m jetstream.Msg) (kept, error) {
	meta, err := m.Metadata()
	if err != nil {
		return kept{}, err
	}
	parts := strings.Split(m.Subject(), ".")
	if len(parts) != 4 {
		return kept{}, fmt.Errorf("subject %q is not one of output", m.Subject())
	}
	attempt, err := strconv.Atoi(parts[2])
	if err != nil {
		return kept{}, fmt.Errorf("subject %q: %w", m.Subject(), err)
	}
	rank, err := strconv.Atoi(parts[3])
	if err != nil {
		return kept{}, fmt.Errorf("subject %q: %w", m.Subject(), err)
	}
	h := m.Headers()
	behind, err := strconv.ParseUint(h.Get(headerBehind), 10, 64)
	if err != nil {
		return kept{}, fmt.Errorf("output at %d: header %s: %w", meta.Sequence.Stream, headerBehind, err)
	}
	to, err := parsePosition(h.Get(headerTo))
	if err != nil {
		return kept{}, fmt.Errorf("output at %d: header %s: %w", meta.Sequence.Stream, headerTo, err)
	}
	k := kept{
		source: source{parts[1], attempt, rank},
		seq:    meta.Sequence.Stream, behind: behind, pending: meta.NumPending, stored: meta.Timestamp,
		time: to.Time, cluster: h.Get(headerCluster), text: m.Data(),
		gap: h.Get(headerGap), amid: h.Get(headerAmid) != "", eof: h.Get(headerEOF) != "",
	}
	if k.time.IsZero() {
		k.time = k.stored
	}
	return k, nil
}

// dropped is the gap that the store's own bounds make.
const dropped = "older output made place for newer"

// missing is why output before this chunk is lost, for a reader who has the
// chunks up to after, and further ones of the sources in reached; empty where
// none is.
func (k *kept) missing(after uint64, reached map[source]uint64) string {
	before, seen := reached[k.source]
	gone := k.behind > after
	if seen {
		gone = k.behind != before
	}
	reached[k.source] = k.seq
	if gone && k.gap == "" {
		return dropped
	}
	return k.gap
}

// stall is how long a reading waits for a chunk before it asks whether there
// is one.
const stall = 2 * time.Second

// idle is how long the server keeps what a reading leaves behind.
const idle = 30 * time.Second

// each lets visit see the chunks that a consumer is made for, to the last one
// that is there or until it returns false.
func (s *Store) each(ctx context.Context, config jetstream.OrderedConsumerConfig, visit func(kept) bool) error {
	config.InactiveThreshold = idle
	consumer, err := s.stream.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stall)
		defer cancel()
		// One that stays is taken away when it has been idle.
		_ = s.stream.DeleteConsumer(ctx, consumer.CachedInfo().Name)
	}()
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		waiting, cancel := context.WithTimeout(ctx, stall)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)) {
			// What was to follow may have made place for newer.
			info, err := consumer.Info(ctx)
			if err != nil {
				return err
			}
			if info.NumPending == 0 {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		k, err := parse(m)
		if err != nil {
			return err
		}
		if !visit(k) || k.pending == 0 {
			return nil
		}
	}
}

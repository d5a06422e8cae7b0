package logs

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

// Chunk is a run of one rank's output, as readers get it.
type Chunk struct {
	// Seq is the chunk's place in the store, from which a reader goes on.
	Seq     uint64
	Attempt int
	Rank    int
	Text    []byte
	// Gap is why output before Text was lost; empty where none was.
	Gap string
	// Again: the reader's place was lost, and the job's output starts over
	// with this chunk. Gap says so, too.
	Again bool
	// EOF: nothing follows of this rank.
	EOF bool
}

// dropped is the gap that the store's own bounds make.
const dropped = "older output made place for newer"

// lostPlace is the gap where a reader knows output that the store has lost.
const lostPlace = "the relay lost its place; lines may repeat"

// source is one rank of one attempt.
type source struct{ attempt, rank int }

// Follow yields the output of a job, all attempts and ranks in the order of
// its arrival, behind the sequence after, and then what arrives. Where the
// store has not come as far as after, because a power cut or a restored backup
// took it back, it starts over. It ends with ctx, or with an error.
func (s *Store) Follow(ctx context.Context, job string, after uint64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if err := s.follow(ctx, job, after, yield); err != nil && ctx.Err() == nil {
			yield(Chunk{}, fmt.Errorf("follow the output of job %s: %w", job, err))
		}
	}
}

func (s *Store) follow(ctx context.Context, job string, after uint64, yield func(Chunk, error) bool) error {
	if err := protocol.CheckName(job); err != nil { // it becomes a subject
		return err
	}
	last, err := s.last(ctx)
	if err != nil {
		return err
	}
	again := after > last
	if again {
		after = 0
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{prefix + job + ".*.*"}}
	if after > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := s.stream.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	reached := map[source]uint64{}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		chunk, err := decode(m, after, reached)
		if err != nil {
			return err
		}
		if again {
			chunk.Again, again = true, false
			chunk.Gap = strings.TrimSuffix(lostPlace+"; "+chunk.Gap, "; ")
		}
		if !yield(chunk, nil) {
			return nil
		}
	}
}

// last is the sequence of the newest chunk of all; it outlives the chunk.
func (s *Store) last(ctx context.Context) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// decode reads a kept chunk of a reader who has the chunks up to after, and
// further ones of the sources in reached; it finds out whether any between are
// gone.
func decode(m jetstream.Msg, after uint64, reached map[source]uint64) (Chunk, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Chunk{}, err
	}
	parts := strings.Split(m.Subject(), ".")
	if len(parts) != 4 {
		return Chunk{}, fmt.Errorf("subject %q is not one of output", m.Subject())
	}
	attempt, err := strconv.Atoi(parts[2])
	if err != nil {
		return Chunk{}, fmt.Errorf("subject %q: %w", m.Subject(), err)
	}
	rank, err := strconv.Atoi(parts[3])
	if err != nil {
		return Chunk{}, fmt.Errorf("subject %q: %w", m.Subject(), err)
	}
	h := m.Headers()
	behind, err := strconv.ParseUint(h.Get(headerBehind), 10, 64)
	if err != nil {
		return Chunk{}, fmt.Errorf("output at %d: header %s: %w", meta.Sequence.Stream, headerBehind, err)
	}
	chunk := Chunk{Seq: meta.Sequence.Stream, Attempt: attempt, Rank: rank, Text: m.Data(), Gap: h.Get(headerGap), EOF: h.Get(headerEOF) != ""}
	of := source{attempt, rank}
	before, seen := reached[of]
	gone := behind > after
	if seen {
		gone = behind != before
	}
	if gone && chunk.Gap == "" {
		chunk.Gap = dropped
	}
	reached[of] = chunk.Seq
	return chunk, nil
}

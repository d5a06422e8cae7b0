package logs

import (
	"context"
	"fmt"
	"iter"
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

// lostPlace is the gap where a reader knows output that the store has lost.
const lostPlace = "the relay lost its place; lines may repeat"

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
		k, err := parse(m)
		if err != nil {
			return err
		}
		chunk := Chunk{Seq: k.seq, Attempt: k.attempt, Rank: k.rank, Text: k.text, Gap: k.missing(after, reached), EOF: k.eof}
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

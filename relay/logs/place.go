package logs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

// headerSeq is, in a kept place, the sequence of the chunk that reached it.
const headerSeq = "Seq"

func placeSubject(subject string) string {
	return placesPrefix + strings.TrimPrefix(subject, prefix)
}

// keepPlace remembers the position that a chunk reached.
func (s *Store) keepPlace(ctx context.Context, subject string, chunk *protocol.LogChunk, seq uint64) error {
	m := message("", placeSubject(subject), position{}, &protocol.LogChunk{To: chunk.To, EOF: chunk.EOF})
	m.Header.Set(headerSeq, strconv.FormatUint(seq, 10))
	_, err := s.opts.JetStream.PublishMsg(ctx, m)
	return err
}

// place is the position of a rank whose chunks are all gone: the remembered
// one where they made place for others, the beginning where the stream lost
// its end, as after a power cut, and wants them again.
func (s *Store) place(ctx context.Context, subject string) (position, error) {
	kept, err := s.places.GetLastMsgForSubject(ctx, placeSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return position{}, nil
	}
	if err != nil {
		return position{}, fmt.Errorf("read the place of %s: %w", subject, err)
	}
	seq, err := strconv.ParseUint(kept.Header.Get(headerSeq), 10, 64)
	if err != nil {
		return position{}, fmt.Errorf("read the place of %s: %w", subject, err)
	}
	to, err := parsePosition(kept.Header.Get(headerTo))
	if err != nil {
		return position{}, fmt.Errorf("read the place of %s: %w", subject, err)
	}
	info, err := s.stream.Info(ctx)
	if err != nil {
		return position{}, fmt.Errorf("read the state of the stream %s: %w", streamName, err)
	}
	if seq > info.State.LastSeq {
		return position{}, nil
	}
	return position{LogPosition: to, eof: kept.Header.Get(headerEOF) != "", behind: seq}, nil
}

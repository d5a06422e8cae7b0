// Package logs keeps the output of training pods for as long as people look at
// it: a bounded stream, where the oldest output makes place for the newest.
//
// It guarantees that the output of a rank is kept in order, nothing doubled: a
// chunk is taken only where it starts at the position that was reached, by
// compare-and-set, and its sender goes on from the position that it is told.
// Where output was lost, before it came here or because the stream is bounded,
// readers are told that there is a gap. Unlike records, output is written
// through to the disk a moment later: after a power cut the position is an
// older one, from which agents send again.
//
// Follow reads the chunks of one job, Search finds lines in those of all, and an
// Outlet hands all lines on to who sends them elsewhere, and keeps how far that
// has come.
package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// Options of a store.
type Options struct {
	JetStream jetstream.JetStream
	// Claimed reports whether the attempt was claimed by the cluster.
	Claimed func(ctx context.Context, cluster string, ref protocol.Ref) (bool, error)
	// Analyzed reports whether output of the cluster may be searched and sent
	// elsewhere; nil for all.
	Analyzed func(cluster string) bool

	MaxBytes  int64         // of all output; 0 for 8 GiB
	MaxChunks int64         // of one rank; 0 for 20,000
	MaxAge    time.Duration // 0 for 7 days

	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Store keeps output.
type Store struct {
	opts     Options
	stream   jetstream.Stream
	places   jetstream.Stream // of each rank its last chunk without the text
	searches chan struct{}    // those that run
	bytes    prometheus.Counter

	searchTime time.Duration // for a page
	chunks     *prometheus.CounterVec
}

const (
	streamName = "LOGS"
	prefix     = "log."

	// The position outlives the text, so that a rank whose output made place
	// for others' is not sent again from its beginning.
	placesName   = "LOGPLACES"
	placesPrefix = "logplace."
	placesAge    = 60 * 24 * time.Hour
	placesBytes  = 256 << 20
)

// Open makes the stream, if it is missing.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 8 << 30
	}
	if opts.MaxChunks == 0 {
		opts.MaxChunks = 20_000
	}
	if opts.MaxAge == 0 {
		opts.MaxAge = 7 * 24 * time.Hour
	}
	stream, err := opts.JetStream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     streamName,
		Subjects: []string{prefix + "*.*.*"},
		MaxBytes: opts.MaxBytes,
		MaxAge:   opts.MaxAge,
		// One rank does not push out all others.
		MaxMsgsPerSubject: opts.MaxChunks,
		Discard:           jetstream.DiscardOld,
		PersistMode:       jetstream.AsyncPersistMode,
		Compression:       jetstream.S2Compression,
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", streamName, err)
	}
	places, err := opts.JetStream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              placesName,
		Subjects:          []string{placesPrefix + "*.*.*"},
		MaxBytes:          placesBytes,
		MaxAge:            placesAge,
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		PersistMode:       jetstream.AsyncPersistMode,
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", placesName, err)
	}
	with := promauto.With(opts.Registerer)
	return &Store{
		opts:     opts,
		stream:   stream,
		places:   places,
		searches: make(chan struct{}, maxSearches), searchTime: searchTime,
		bytes: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_log_bytes_total", Help: "Bytes of output taken."}),
		chunks: with.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_log_chunks_total",
			Help: "Chunks of output: taken, or not because they did not start at the position reached (elsewhere) or are of no attempt of the cluster (unknown).",
		}, []string{"result"}),
	}, nil
}

func subject(ref protocol.Ref, rank int) string {
	return fmt.Sprintf("%s%s.%d.%d", prefix, ref.Job, ref.Attempt, rank)
}

// Append takes a chunk, where it starts at the position reached, and answers
// with the position reached then.
func (s *Store) Append(ctx context.Context, cluster string, chunk *protocol.LogChunk) (*protocol.LogReply, error) {
	claimed, err := s.opts.Claimed(ctx, cluster, chunk.Ref)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", chunk.Ref, err)
	}
	if !claimed {
		s.chunks.WithLabelValues("unknown").Inc()
		return &protocol.LogReply{Unknown: true}, nil
	}
	subject := subject(chunk.Ref, chunk.Rank)
	at, err := s.position(ctx, subject)
	if err != nil {
		return nil, err
	}
	asks := len(chunk.Data) == 0 && chunk.Gap == "" && !chunk.EOF
	if asks || at.eof || !same(chunk.From, at.LogPosition) {
		if !asks {
			s.chunks.WithLabelValues("elsewhere").Inc()
		}
		return &protocol.LogReply{At: at.LogPosition, EOF: at.eof}, nil
	}
	ack, err := s.opts.JetStream.PublishMsg(ctx, message(cluster, subject, at, chunk), jetstream.WithExpectLastSequencePerSubject(at.seq))
	switch {
	case isConflict(err): // somebody else was faster
		s.chunks.WithLabelValues("elsewhere").Inc()
		at, err = s.position(ctx, subject)
		return &protocol.LogReply{At: at.LogPosition, EOF: at.eof}, err
	case err != nil:
		return nil, fmt.Errorf("write the output of %s: %w", chunk.Ref, err)
	}
	if err := s.keepPlace(ctx, subject, chunk, ack.Sequence); err != nil {
		// It is needed only once the text is gone.
		s.opts.Log.Warn().Err(err).Str("subject", subject).Msg("cannot keep the place of output")
	}
	s.chunks.WithLabelValues("taken").Inc()
	s.bytes.Add(float64(len(chunk.Data)))
	return &protocol.LogReply{At: chunk.To, EOF: chunk.EOF, Taken: true}, nil
}

// position is what the store reached of one rank's output.
type position struct {
	protocol.LogPosition
	eof    bool
	seq    uint64 // of the last chunk that is kept; 0 for none
	behind uint64 // of the last chunk, kept or not; 0 for none
	amid   bool   // it ends amid a line
}

func (s *Store) position(ctx context.Context, subject string) (position, error) {
	last, err := s.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s.place(ctx, subject)
	}
	if err != nil {
		return position{}, fmt.Errorf("read the position of %s: %w", subject, err)
	}
	to, err := parsePosition(last.Header.Get(headerTo))
	if err != nil {
		return position{}, fmt.Errorf("read the position of %s: %w", subject, err)
	}
	amid := last.Header.Get(headerAmid) != ""
	if len(last.Data) > 0 {
		amid = !bytes.HasSuffix(last.Data, []byte("\n"))
	}
	return position{LogPosition: to, eof: last.Header.Get(headerEOF) != "", seq: last.Sequence, behind: last.Sequence, amid: amid}, nil
}

func isConflict(err error) bool {
	api := new(jetstream.APIError)
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Headers of a kept chunk; its data is the text.
const (
	headerBehind  = "Behind" // the sequence of the rank's chunk before; 0 for none
	headerTo      = "To"
	headerGap     = "Gap"
	headerEOF     = "Eof"
	headerCluster = "Cluster" // that sent it
	headerAmid    = "Amid"    // it begins amid a line
)

func message(cluster, subject string, at position, chunk *protocol.LogChunk) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Header.Set(headerBehind, strconv.FormatUint(at.behind, 10))
	m.Header.Set(headerTo, formatPosition(chunk.To))
	if cluster != "" {
		m.Header.Set(headerCluster, cluster)
	}
	if at.amid {
		m.Header.Set(headerAmid, "1")
	}
	if chunk.Gap != "" {
		m.Header.Set(headerGap, strings.Join(strings.Fields(chunk.Gap), " ")) // one line
	}
	if chunk.EOF {
		m.Header.Set(headerEOF, "1")
	}
	m.Data = chunk.Data
	return m
}

func same(a, b protocol.LogPosition) bool { return a.Time.Equal(b.Time) && a.Lines == b.Lines }

// formatPosition is "TIME/LINES", empty for the beginning.
func formatPosition(p protocol.LogPosition) string {
	if same(p, protocol.LogPosition{}) {
		return ""
	}
	return p.Time.UTC().Format(time.RFC3339Nano) + "/" + strconv.FormatUint(uint64(p.Lines), 10)
}

func parsePosition(s string) (protocol.LogPosition, error) {
	if s == "" {
		return protocol.LogPosition{}, nil
	}
	at, lines, _ := strings.Cut(s, "/")
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return protocol.LogPosition{}, fmt.Errorf("position %q: %w", s, err)
	}
	n, err := strconv.ParseUint(lines, 10, 32)
	if err != nil {
		return protocol.LogPosition{}, fmt.Errorf("position %q: %w", s, err)
	}
	return protocol.LogPosition{Time: t, Lines: uint32(n)}, nil
}

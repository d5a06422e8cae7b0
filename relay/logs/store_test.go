package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a store on a server of its own; cluster "c" claimed every attempt.
func open(t *testing.T, opts Options) *Store {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, JetStreamMaxStore: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	opts.JetStream, err = jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Claimed == nil {
		opts.Claimed = func(_ context.Context, cluster string, _ protocol.Ref) (bool, error) { return cluster == "c", nil }
	}
	store, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)

// at is the position after n lines, one each nanosecond.
func at(n int) protocol.LogPosition {
	if n == 0 {
		return protocol.LogPosition{}
	}
	return protocol.LogPosition{Time: epoch.Add(time.Duration(n)), Lines: 1}
}

// chunk is the output of job "job" from one line to another.
func chunk(rank, from, to int) *protocol.LogChunk {
	var text bytes.Buffer
	for n := from; n < to; n++ {
		fmt.Fprintf(&text, "line %d\n", n)
	}
	return &protocol.LogChunk{Ref: protocol.Ref{Job: "job", Attempt: 1}, Rank: rank, From: at(from), To: at(to), Data: text.Bytes()}
}

func appendTo(t *testing.T, s *Store, c *protocol.LogChunk) *protocol.LogReply {
	t.Helper()
	reply, err := s.Append(t.Context(), "c", c)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// read returns n chunks of the job behind a sequence.
func read(t *testing.T, s *Store, after uint64, n int) (chunks []Chunk) {
	t.Helper()
	for chunk, err := range s.Follow(t.Context(), "job", after) {
		if err != nil {
			t.Fatal(err)
		}
		if chunks = append(chunks, chunk); len(chunks) == n {
			break
		}
	}
	return chunks
}

func TestPositions(t *testing.T) {
	s := open(t, Options{})
	for _, test := range []struct {
		name  string
		chunk *protocol.LogChunk
		want  protocol.LogReply
	}{
		{"asks at the beginning", chunk(0, 0, 0), protocol.LogReply{}},
		{"starts too late", chunk(0, 3, 5), protocol.LogReply{}},
		{"first", chunk(0, 0, 3), protocol.LogReply{At: at(3), Taken: true}},
		{"the same again", chunk(0, 0, 3), protocol.LogReply{At: at(3)}},
		{"asks", chunk(0, 0, 0), protocol.LogReply{At: at(3)}},
		{"next", chunk(0, 3, 5), protocol.LogReply{At: at(5), Taken: true}},
		{"another rank", chunk(1, 0, 2), protocol.LogReply{At: at(2), Taken: true}},
		{"last", &protocol.LogChunk{Ref: protocol.Ref{Job: "job", Attempt: 1}, From: at(5), To: at(5), EOF: true}, protocol.LogReply{At: at(5), EOF: true, Taken: true}},
		{"after the last", chunk(0, 5, 6), protocol.LogReply{At: at(5), EOF: true}},
	} {
		if diff := cmp.Diff(test.want, *appendTo(t, s, test.chunk)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	reply, err := s.Append(t.Context(), "other", chunk(0, 0, 1))
	if diff := cmp.Diff(&protocol.LogReply{Unknown: true}, reply); diff != "" || err != nil {
		t.Errorf("of another cluster: %s, %v", diff, err)
	}
	want := []Chunk{
		{Seq: 1, Attempt: 1, Text: chunk(0, 0, 3).Data},
		{Seq: 2, Attempt: 1, Text: chunk(0, 3, 5).Data},
		{Seq: 3, Attempt: 1, Rank: 1, Text: chunk(0, 0, 2).Data},
		{Seq: 4, Attempt: 1, EOF: true},
	}
	same := cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })
	if diff := cmp.Diff(want, read(t, s, 0, 4), same); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[2:], read(t, s, 2, 2), same); diff != "" {
		t.Errorf("behind the second: %s", diff)
	}
}

// TestConcurrentSenders: of senders that race, as an old and a new agent of a
// node, each line is taken once and in order.
func TestConcurrentSenders(t *testing.T) {
	s := open(t, Options{})
	const lines = 40
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; n < lines; {
				reply, err := s.Append(t.Context(), "c", chunk(0, n, n+1))
				if err != nil {
					t.Error(err)
					return
				}
				if n = 0; reply.At.Lines > 0 {
					n = int(reply.At.Time.Sub(epoch))
				}
			}
		})
	}
	wg.Wait()
	var got strings.Builder
	for _, chunk := range read(t, s, 0, lines) {
		got.Write(chunk.Text)
	}
	if diff := cmp.Diff(string(chunk(0, 0, lines).Data), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestGaps: what the agent lost and what the store dropped is told.
func TestGaps(t *testing.T) {
	s := open(t, Options{MaxChunks: 3})
	for n := range 5 {
		if reply := appendTo(t, s, chunk(0, n, n+1)); !reply.Taken {
			t.Fatalf("line %d: %+v", n, reply)
		}
	}
	lost := chunk(0, 5, 6)
	lost.Gap, lost.To = "the kubelet\nrotated them away", at(9)
	appendTo(t, s, lost)
	var gaps []string
	for _, chunk := range read(t, s, 0, 3) {
		gaps = append(gaps, chunk.Gap)
	}
	if diff := cmp.Diff([]string{dropped, "", "the kubelet rotated them away"}, gaps); diff != "" {
		t.Error(diff)
	}
}

// TestGapsOfResumed: a reader who comes back is told what was dropped behind
// its place, also where a quieter rank keeps older chunks, and nothing where
// only another's chunks went.
func TestGapsOfResumed(t *testing.T) {
	s := open(t, Options{MaxChunks: 3})
	appendTo(t, s, chunk(1, 0, 1)) // sequence 1
	for n := range 6 {             // 2 to 7, of which 5 to 7 are kept
		appendTo(t, s, chunk(0, n, n+1))
	}
	appendTo(t, s, chunk(1, 1, 2)) // 8
	for _, test := range []struct {
		after uint64
		want  []string // of the chunks from the place on
	}{
		{0, []string{"", dropped, "", "", ""}},
		{1, []string{dropped, "", "", ""}},
		{3, []string{dropped, "", "", ""}},
		{4, []string{"", "", "", ""}},
		{6, []string{"", ""}},
	} {
		var gaps []string
		for _, chunk := range read(t, s, test.after, len(test.want)) {
			gaps = append(gaps, chunk.Gap)
		}
		if diff := cmp.Diff(test.want, gaps); diff != "" {
			t.Errorf("behind %d: %s", test.after, diff)
		}
	}
	// The store's own bound: the oldest go first, whose ever they are.
	if err := s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(7)); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[uint64]string{1: dropped, 5: dropped, 6: ""} {
		chunks := read(t, s, after, 2)
		if chunks[0].Gap != want || chunks[1].Gap != "" {
			t.Errorf("behind %d: %+v", after, chunks)
		}
	}
}

// TestGapOfAllThatWasKept: where all of a rank made place, what follows is
// marked for those who did not see it.
func TestGapOfAllThatWasKept(t *testing.T) {
	s := open(t, Options{})
	appendTo(t, s, chunk(0, 0, 1))
	appendTo(t, s, chunk(0, 1, 2))
	if err := s.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reply := appendTo(t, s, chunk(0, 2, 3)); !reply.Taken {
		t.Fatalf("%+v", reply)
	}
	for after, want := range map[uint64]string{0: dropped, 1: dropped, 2: ""} {
		if got := read(t, s, after, 1)[0]; got.Seq != 3 || got.Gap != want {
			t.Errorf("behind %d: %+v", after, got)
		}
	}
}

// TestPlaceLost: a reader who knows more than a store that went back to an
// earlier state, as by a power cut, gets everything, and is told.
func TestPlaceLost(t *testing.T) {
	s := open(t, Options{})
	for n := range 3 {
		appendTo(t, s, chunk(0, n, n+1))
	}
	next, stop := iter.Pull2(s.Follow(t.Context(), "job", 8))
	defer stop()
	for n := range 12 {
		if n >= 3 {
			appendTo(t, s, chunk(0, n, n+1))
		}
		got, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		want := Chunk{Seq: uint64(n + 1), Attempt: 1, Text: chunk(0, n, n+1).Data}
		if n == 0 {
			want.Again, want.Gap = true, lostPlace
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("line %d: %s", n, diff)
		}
	}
	if got := read(t, s, 12-1, 1)[0]; got.Again || got.Gap != "" {
		t.Errorf("a reader whose place is known: %+v", got)
	}
}

// TestFollowWaits: a reader gets what arrives while it waits, and ends with
// its context.
func TestFollowWaits(t *testing.T) {
	s := open(t, Options{})
	appendTo(t, s, chunk(0, 0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for c, err := range s.Follow(ctx, "job", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(chunk(0, n, n+1).Data), string(c.Text)); diff != "" {
			t.Error(diff)
		}
		if n++; n == 3 {
			cancel()
			continue
		}
		appendTo(t, s, chunk(0, n, n+1))
	}
	if n != 3 {
		t.Errorf("%d chunks", n)
	}
	for _, err := range s.Follow(t.Context(), "no*.>", 0) {
		if err == nil {
			t.Error("a name that is a pattern was followed")
		}
	}
}

func TestClaimedFails(t *testing.T) {
	away := errors.New("the records are away")
	s := open(t, Options{Claimed: func(context.Context, string, protocol.Ref) (bool, error) { return false, away }})
	if _, err := s.Append(t.Context(), "c", chunk(0, 0, 1)); !errors.Is(err, away) {
		t.Errorf("%v", err)
	}
}

func TestPositionsSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := protocol.LogPosition{
			Time:  time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")),
			Lines: rapid.Uint32().Draw(t, "lines"),
		}
		got, err := parsePosition(formatPosition(p))
		if err != nil || !same(p, got) {
			t.Fatalf("%v became %v, %v", p, got, err)
		}
	})
}

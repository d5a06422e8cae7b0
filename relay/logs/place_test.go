package logs

import (
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestPlaceOutlivesTheText: output that made place for others' is not sent
// again; output that the stream lost at its end is.
func TestPlaceOutlivesTheText(t *testing.T) {
	s := open(t, Options{MaxBytes: 64 << 10})
	ask := func() *protocol.LogReply {
		return appendTo(t, s, &protocol.LogChunk{Ref: chunk(0, 0, 0).Ref})
	}
	appendTo(t, s, chunk(0, 0, 5))
	for n := 0; ; n += 500 { // another rank fills the stream
		appendTo(t, s, chunk(1, n, n+500))
		if _, err := s.stream.GetLastMsgForSubject(t.Context(), subject(chunk(0, 0, 0).Ref, 0)); err != nil {
			break
		}
	}
	if reply := ask(); !same(reply.At, at(5)) {
		t.Errorf("the position went back to %v", reply.At)
	}
	if reply := appendTo(t, s, chunk(0, 5, 7)); !reply.Taken {
		t.Errorf("output that goes on is not taken: %+v", reply)
	}

	if err := s.keepPlace(t.Context(), subject(chunk(2, 0, 0).Ref, 2), chunk(2, 0, 3), 1<<40); err != nil {
		t.Fatal(err)
	}
	if reply := appendTo(t, s, &protocol.LogChunk{Ref: chunk(2, 0, 0).Ref, Rank: 2}); !same(reply.At, protocol.LogPosition{}) {
		t.Errorf("output that the stream lost is not wanted again: %v", reply.At)
	}
}

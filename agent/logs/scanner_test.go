package logs

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/trainrelay/trainrelay/protocol"
)

const stamp = "2026-01-02T03:04:05.000000001Z "

func TestScannerLeavesOutWhatHasNoTimestamp(t *testing.T) {
	in := "rest of a line\n" +
		stamp + "one\n" +
		"failed to watch the log\n" +
		strings.Repeat("y", 100_000) + "\n" +
		"2026-01-02T03:04:05.000000001\n" +
		"2026-99-02T03:04:05.000000001Z no date\n" +
		"2026-01-02T05:04:05.000000001+02:00 \n" +
		stamp + "tw"
	s := newScanner(iotest.OneByteReader(strings.NewReader(in)))
	var got []string
	for {
		p, err := s.next()
		if err != nil {
			if !errors.Is(err, io.EOF) || string(p.data) != "tw" || p.to.Lines != 3 {
				t.Errorf("at the end: %q at %+v, %v", p.data, p.to, err)
			}
			break
		}
		got = append(got, string(p.data))
	}
	if strings.Join(got, "|") != "one\n|\n" {
		t.Errorf("pieces %q", got)
	}
}

// FuzzScanner holds for any input: pieces are bounded and in order of their
// positions; they are the same however the input arrives; and a reader that
// goes on behind any of them misses and repeats nothing.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(stamp+"one\n"+stamp+"two\n"+stamp), uint8(1))
	f.Add([]byte("rest\n"+stamp+strings.Repeat("x", 2*pieceSize)+"\n"), uint8(2))
	f.Add([]byte("2026-01-02T03:04:06.000000001+02:00 \n\n"+stamp+"\n"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, behind uint8) {
		var pieces []piece
		scan := func(r io.Reader, each func(piece)) piece {
			for s := newScanner(r); ; {
				p, err := s.next()
				if err != nil {
					if len(p.data) > pieceSize {
						t.Fatalf("an unfinished piece of %d bytes", len(p.data))
					}
					return p
				}
				each(p)
			}
		}
		tail := scan(bytes.NewReader(in), func(p piece) {
			if len(p.data) == 0 || len(p.data) > pieceSize {
				t.Fatalf("a piece of %d bytes", len(p.data))
			}
			if n := len(pieces); n > 0 && compare(pieces[n-1].to, p.to) >= 0 {
				t.Fatalf("position %+v after %+v", p.to, pieces[n-1].to)
			}
			pieces = append(pieces, piece{bytes.Clone(p.data), p.to})
		})
		n := 0
		again := scan(iotest.HalfReader(bytes.NewReader(in)), func(p piece) {
			if n >= len(pieces) || !bytes.Equal(p.data, pieces[n].data) || compare(p.to, pieces[n].to) != 0 {
				t.Fatalf("piece %d differs when read in other portions", n)
			}
			n++
		})
		if n != len(pieces) || !bytes.Equal(tail.data, again.data) {
			t.Fatal("differs when read in other portions")
		}
		if len(pieces) == 0 {
			return
		}
		at := int(behind) % len(pieces)
		var want []byte
		for _, p := range pieces[at+1:] {
			want = append(want, p.data...)
		}
		r := &reading{from: pieces[at].to, runs: make(chan run)}
		go r.read(t.Context(), bytes.NewReader(in))
		var got []byte
		for out := range r.runs {
			if len(out.data) > protocol.MaxLogData || out.gap != "" {
				t.Fatalf("a run of %d bytes, gap %q", len(out.data), out.gap)
			}
			got = append(got, out.data...)
		}
		if !bytes.Equal(got, want) || !r.seen {
			t.Fatalf("behind piece %d: got %q, want %q", at, got, want)
		}
	})
}

package logs

import (
	"bufio"
	"bytes"
	"io"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// pieceSize cuts long lines. It is part of what a position means: with
	// another value, a position inside a long line is another place.
	pieceSize = 16 << 10
	// maxStamp bounds a timestamp in front of a line, in bytes.
	maxStamp = len("2006-01-02T15:04:05.000000000+00:00")
)

// scanner splits a log, as the Kubernetes API gives it with timestamps, into
// pieces: lines, or parts of long lines. Text without a timestamp in front is
// left out: a remark of the kubelet, or the rest of a line whose beginning is
// older than what was asked for.
type scanner struct {
	r      *bufio.Reader
	at     protocol.LogPosition // of the last piece
	inLine bool                 // the last piece did not end its line
	buf    []byte
}

// piece is a line or a part of one.
type piece struct {
	data []byte // valid until the next one
	to   protocol.LogPosition
}

func newScanner(r io.Reader) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 32<<10)}
}

// next returns the next piece. With an error comes the unfinished piece at the
// end of the input, which has no data where there is none.
func (s *scanner) next() (piece, error) {
	for !s.inLine {
		stamp, ok, err := s.stamp()
		if err != nil {
			return piece{}, err
		}
		if !ok {
			continue
		}
		if stamp.After(s.at.Time) {
			s.at = protocol.LogPosition{Time: stamp}
		}
		s.inLine = true
	}
	s.buf = s.buf[:0]
	for s.inLine && len(s.buf) < pieceSize {
		part, err := s.take(pieceSize - len(s.buf))
		s.buf = append(s.buf, part...)
		if err != nil {
			end := s.at
			end.Lines++
			return piece{s.buf, end}, err
		}
		s.inLine = part[len(part)-1] != '\n'
	}
	s.at.Lines++
	return piece{s.buf, s.at}, nil
}

// stamp reads the timestamp in front of a line. Of a line without one it reads
// all.
func (s *scanner) stamp() (t time.Time, ok bool, err error) {
	text := make([]byte, 0, maxStamp)
	for {
		c, err := s.r.ReadByte()
		switch {
		case err != nil:
			return time.Time{}, false, err
		case c == ' ':
			if t, err := time.Parse(time.RFC3339Nano, string(text)); err == nil && t.Year() > 1 {
				return t.UTC(), true, nil
			}
		case c == '\n':
			return time.Time{}, false, nil
		case len(text) < maxStamp:
			text = append(text, c)
			continue
		}
		return time.Time{}, false, s.skipLine()
	}
}

func (s *scanner) skipLine() error {
	for {
		part, err := s.take(pieceSize)
		if err != nil {
			return err
		}
		if part[len(part)-1] == '\n' {
			return nil
		}
	}
}

// take returns what has arrived of the current line, at least a byte and at
// most n, its newline included.
func (s *scanner) take(n int) ([]byte, error) {
	if _, err := s.r.Peek(1); err != nil {
		return nil, err
	}
	part, _ := s.r.Peek(min(n, s.r.Buffered())) // is there
	if i := bytes.IndexByte(part, '\n'); i >= 0 {
		part = part[:i+1]
	}
	_, _ = s.r.Discard(len(part)) // is there
	return part, nil
}

// pausing reports whether the next piece may have to be waited for: no line
// has arrived to its end.
func (s *scanner) pausing() bool {
	arrived, _ := s.r.Peek(s.r.Buffered()) // is there
	return bytes.IndexByte(arrived, '\n') < 0
}

// compare orders positions.
func compare(a, b protocol.LogPosition) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	return int(int64(a.Lines) - int64(b.Lines))
}

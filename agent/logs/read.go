package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// run is a run of output, not longer than a chunk may be.
type run struct {
	data []byte
	to   protocol.LogPosition
	gap  string // what is missing before data
}

// reading is one reading of a container's log, from a position on.
type reading struct {
	from protocol.LogPosition
	// fresh: the container started after from, of which its log knows nothing.
	fresh bool
	runs  chan run

	// The rest is set once runs is closed.
	err  error // nil where the log ended in good order
	tail piece // an unfinished line at the end
	seen bool  // from was found in the log, or nothing had to be found
}

func newReading(from protocol.LogPosition, started time.Time) *reading {
	return &reading{
		from:  from,
		fresh: from.Time.IsZero() || started.After(from.Time),
		runs:  make(chan run),
	}
}

// read reads all of body and then closes runs. While nobody takes a run, it
// reads no further.
func (r *reading) read(ctx context.Context, body io.Reader) {
	defer close(r.runs)
	s := newScanner(body)
	r.seen = r.fresh
	var out run
	for {
		p, err := s.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			if compare(p.to, r.from) > 0 && len(p.data) > 0 {
				r.tail = p
			}
			r.deliver(ctx, &out)
			return
		}
		if compare(p.to, r.from) <= 0 {
			r.seen = r.seen || compare(p.to, r.from) == 0
		} else {
			if len(out.data)+len(p.data) > protocol.MaxLogData && !r.deliver(ctx, &out) {
				return
			}
			if !r.seen {
				r.seen = true
				out.gap = fmt.Sprintf("output after %s may be missing: the node rotated the container's log before it was read", r.from.Time.Format(time.RFC3339Nano))
			}
			out.data, out.to = append(out.data, p.data...), p.to
		}
		if s.pausing() && !r.deliver(ctx, &out) {
			return
		}
	}
}

// agrees reports whether both readings brought the same unfinished line.
func (r *reading) agrees(other *reading) bool {
	return compare(r.tail.to, other.tail.to) == 0 && bytes.Equal(r.tail.data, other.tail.data)
}

// deliver hands a run over and empties it.
func (r *reading) deliver(ctx context.Context, out *run) bool {
	if len(out.data) == 0 {
		return ctx.Err() == nil
	}
	select {
	case r.runs <- *out:
		*out = run{}
		return true
	case <-ctx.Done():
		r.err = ctx.Err()
		return false
	}
}

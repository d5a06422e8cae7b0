package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// Event is one thing that happened to a job. Exactly one of its fields but ID
// is set.
type Event struct {
	// ID is where the stream goes on behind this event; empty for those that
	// are not numbered.
	ID     string
	Status *v1.StatusEvent
	Log    *v1.LogEvent
	Gap    *v1.LogEvent
	End    *v1.StatusEvent
	// Lost is why the connection broke; it is being made anew.
	Lost error
}

// silence is how long a stream may be silent: the relay's heartbeats come
// several times as often.
const silence = time.Minute

// Stream yields what becomes of a job and its output, until its end, behind
// the event from; empty for all. A connection that breaks is made again, with
// pauses that grow, for as long as ctx lives. An error is yielded last: where
// the first connection fails, or the relay refuses.
func (c *Client) Stream(ctx context.Context, name, from string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		pause := backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(15*time.Second), backoff.WithMaxElapsedTime(0))
		for connected := false; ; {
			err := c.streamOnce(ctx, name, from, func(e Event) bool {
				connected = true
				if e.ID != "" {
					from = e.ID
				}
				pause.Reset()
				return yield(e, nil)
			})
			switch {
			case errors.Is(err, errDone):
				return
			case ctx.Err() != nil:
				yield(Event{}, ctx.Err())
				return
			case !connected || final(err):
				yield(Event{}, err)
				return
			}
			if !yield(Event{Lost: err}, nil) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause.NextBackOff()):
			}
		}
	}
}

// errDone says that the job's end was seen, or nobody listens any more.
var errDone = errors.New("done")

// final reports whether trying again is of no use.
func final(err error) bool {
	refused := (*APIError)(nil)
	return errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests
}

// streamOnce follows one connection until it breaks.
func (c *Client) streamOnce(ctx context.Context, name, from string, yield func(Event) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer alarm.Stop()

	header := http.Header{"Accept": {"text/event-stream"}}
	if from != "" {
		header.Set("Last-Event-ID", from)
	}
	resp, err := c.send(ctx, http.MethodGet, path("jobs", name, "stream"), header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	messages := newMessages(heard{resp.Body, alarm})
	for {
		m, err := messages.next()
		if err != nil {
			return c.unreachable(ctx, fmt.Errorf("the stream broke off: %w", err))
		}
		event, known, err := m.event()
		if err != nil {
			return c.unreachable(ctx, err)
		}
		if !known {
			continue
		}
		if !yield(event) || event.End != nil {
			return errDone
		}
	}
}

var errSilent = fmt.Errorf("nothing came for %v", silence)

// heard puts the alarm off with everything that comes.
type heard struct {
	r     io.Reader
	alarm *time.Timer
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.alarm.Reset(silence)
	return n, err
}

// event is what the message says; known is false for kinds of later versions.
func (m message) event() (_ Event, known bool, _ error) {
	e := Event{ID: m.id}
	var data any
	switch m.kind {
	case "status":
		e.Status = new(v1.StatusEvent)
		data = e.Status
	case "log":
		e.Log = new(v1.LogEvent)
		data = e.Log
	case "gap":
		e.Gap = new(v1.LogEvent)
		data = e.Gap
	case "end":
		e.End = new(v1.StatusEvent)
		data = e.End
	default:
		return Event{}, false, nil
	}
	if err := json.Unmarshal(m.data, data); err != nil {
		return Event{}, false, fmt.Errorf("event %q: %w", m.kind, err)
	}
	return e, true, nil
}

package api

import (
	"context"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/trainrelay/trainrelay/internal/v1"
)

type streamInput struct {
	Name string `path:"name" maxLength:"254"`
	From string `header:"Last-Event-ID" maxLength:"512" doc:"the id of the last event seen: go on behind it"`
}

func (a *API) streamRoute(api huma.API) {
	op := operation(reader, http.MethodGet, "/v1/jobs/{name}/stream", "stream-job", "Follow a job and its output", http.StatusNotFound)
	op.Description = `Server-sent events: "status" whenever the status or its reason changes, "log" for a run of output, "gap" where output was lost, and "end" last, once the job has ended and its output is complete or no longer comes. Comments in between show that the stream lives.`
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Server-sent events",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(api, op, func(ctx context.Context, in *streamInput) (*huma.StreamResponse, error) {
		if _, err := a.opts.Jobs.Job(ctx, in.Name); err != nil {
			return nil, a.fail(err)
		}
		from, err := parsePlace(in.From)
		if err != nil {
			return nil, huma.NewError(http.StatusUnprocessableEntity, "Last-Event-ID is not the id of an event of this stream: leave it out to start at the beginning")
		}
		ctx, end, err := a.begin(ctx)
		if err != nil {
			return nil, a.fail(err)
		}
		return &huma.StreamResponse{Body: func(answer huma.Context) {
			defer end()
			_, w := humago.Unwrap(answer)
			s := &stream{a: a, name: in.Name, token: trailOf(ctx).valid, place: from, out: newEvents(w)}
			if err := s.run(ctx); err != nil {
				a.opts.Log.Debug().Err(err).Str("job", in.Name).Msg("a stream broke off")
			}
		}}, nil
	})
}

// stream is one reader's stream of one job.
type stream struct {
	a     *API
	name  string
	token func() error
	place place // reached
	out   *events
	job   v1.Job // as it was last seen
}

// run sends events until the end, or until the reader or the relay goes.
func (s *stream) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	jobs := pump(ctx, &readers, s.a.opts.Jobs.Watch(ctx, s.name))
	chunks := pump(ctx, &readers, s.a.opts.Logs.Follow(ctx, s.name, s.place.seq))

	beat := time.NewTicker(s.a.opts.Heartbeat)
	defer beat.Stop()
	// wait ends the stream when no more output comes; it runs behind the end.
	wait := time.NewTimer(s.a.opts.LogWait)
	wait.Stop()
	defer wait.Stop()
	for !s.complete() {
		var err error
		heard := false // something of the job
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			if err = s.valid(); err == nil {
				err = s.out.beat()
			}
		case <-wait.C:
			return s.end(false)
		case j, open := <-jobs:
			if !open { // the end was seen, or ctx is done
				jobs = nil
				continue
			}
			if heard, err = true, j.err; err == nil {
				err = s.status(j.value)
			}
		case c, open := <-chunks:
			if !open {
				chunks = nil
				continue
			}
			if heard, err = true, c.err; err == nil {
				err = s.output(c.value)
			}
		}
		if err != nil {
			return err
		}
		if heard && s.job.Status.Terminal() {
			wait.Reset(s.patience())
		}
	}
	return s.end(true)
}

// valid says why the reader's token is void by now, if it is: it was revoked or
// has expired since the stream began.
func (s *stream) valid() error {
	if s.token == nil {
		return nil
	}
	return s.token()
}

// patience is how long output may still be on its way. Of a command that was
// never seen running there is likely none.
func (s *stream) patience() time.Duration {
	if s.job.StartTime == nil && s.place.seq == 0 {
		return s.a.opts.LogWait / 4
	}
	return s.a.opts.LogWait
}

// complete reports whether the job has ended and all its output was sent.
func (s *stream) complete() bool {
	return s.job.Status.Terminal() && (s.job.Attempt == 0 || s.place.ended(s.job.Attempt) >= s.job.Resources.InstanceCount)
}

func (s *stream) status(job v1.Job) error {
	s.job = job
	return s.out.send("", "status", statusOf(job))
}

func (s *stream) end(complete bool) error {
	e := statusOf(s.job)
	e.LogComplete = complete
	return s.out.send("", "end", e)
}

func statusOf(job v1.Job) v1.StatusEvent {
	return v1.StatusEvent{Status: job.Status, Reason: job.Reason, Attempt: job.Attempt, ExitCode: job.ExitCode}
}

func (s *stream) output(c Chunk) error {
	s.place.pass(c)
	if c.Gap != "" {
		id := ""
		if len(c.Text) == 0 {
			id = s.place.String()
		}
		if err := s.out.send(id, "gap", v1.LogEvent{Attempt: c.Attempt, Rank: c.Rank, Text: c.Gap}); err != nil {
			return err
		}
	}
	if len(c.Text) == 0 {
		return nil
	}
	return s.out.send(s.place.String(), "log", v1.LogEvent{Attempt: c.Attempt, Rank: c.Rank, Text: string(c.Text)})
}

// item is what an iterator yields.
type item[T any] struct {
	value T
	err   error
}

// pump reads an iterator, in a goroutine that readers waits for, into a
// channel that is closed at its end.
func pump[T any](ctx context.Context, readers *sync.WaitGroup, seq iter.Seq2[T, error]) <-chan item[T] {
	items := make(chan item[T])
	readers.Go(func() {
		defer close(items)
		for value, err := range seq {
			select {
			case items <- item[T]{value, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	return items
}

package api

import (
	"context"
	"errors"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// script plays a job and its output: what happens, each some time after the
// one before.
type script struct {
	unused
	noSearch
	states []step[v1.Job]
	chunks []step[Chunk]
}

// unused and noSearch are the methods that a stream does not call.
type (
	unused   = Jobs
	noSearch struct{}
)

func (noSearch) Search(context.Context, LogQuery) (LogPage, error) { panic("a stream does not search") }

type step[T any] struct {
	after time.Duration
	value T
	err   error
}

// play yields the steps; it then ends, or waits for ctx.
func play[T any](ctx context.Context, steps []step[T], ends bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, s := range steps {
			select {
			case <-time.After(s.after):
			case <-ctx.Done():
				return
			}
			if !yield(s.value, s.err) || s.err != nil {
				return
			}
		}
		if !ends {
			<-ctx.Done()
		}
	}
}

func (s script) Watch(ctx context.Context, _ string) iter.Seq2[v1.Job, error] {
	return play(ctx, s.states, true)
}

func (s script) Follow(ctx context.Context, _ string, _ uint64) iter.Seq2[Chunk, error] {
	return play(ctx, s.chunks, false)
}

// connection is an answer that can be flushed and has deadlines.
type connection struct{ *httptest.ResponseRecorder }

func (connection) SetWriteDeadline(time.Time) error { return nil }

// run streams the script and returns the events and how long it took.
func run(t *testing.T, s script, from string) (events []string, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		place, parseErr := parsePlace(from)
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		w := connection{httptest.NewRecorder()}
		a := &API{opts: Options{Jobs: s, Logs: s, LogWait: 8 * time.Second, Heartbeat: 5 * time.Second}}
		err = (&stream{a: a, name: "j", place: place, out: newEvents(w)}).run(t.Context())
		took = time.Since(start)
		for block := range strings.SplitSeq(strings.TrimSuffix(w.Body.String(), "\n\n"), "\n\n") {
			events = append(events, strings.ReplaceAll(block, "\n", " "))
		}
	})
	return events, took, err
}

func state(s protocol.State) v1.Job {
	start := time.Unix(1, 0)
	return v1.Job{Name: "j", Status: s, Attempt: 1, Resources: v1.Resources{InstanceCount: 2}, StartTime: &start}
}

func TestStream(t *testing.T) {
	const (
		running   = `event: status data: {"status":"Running","attempt":1}`
		completed = `event: status data: {"status":"Completed","attempt":1}`
		whole     = `event: end data: {"status":"Completed","attempt":1,"log_complete":true}`
		cut       = `event: end data: {"status":"Completed","attempt":1}`
		alive     = `: alive`
	)
	chunk := func(seq uint64, rank int, text string, eof bool) Chunk {
		return Chunk{Seq: seq, Attempt: 1, Rank: rank, Text: []byte(text), EOF: eof}
	}
	broken := errors.New("the store broke")
	unstarted := state(protocol.Canceled)
	unstarted.StartTime, unstarted.Attempt = nil, 0
	for _, tc := range []struct {
		name   string
		script script
		from   string
		want   []string
		took   time.Duration
		err    error
	}{
		{"output behind the end", script{
			states: []step[v1.Job]{{value: state(protocol.Running)}, {after: time.Second, value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{after: 3 * time.Second, value: chunk(1, 0, "a\n", true)}, {after: time.Second, value: chunk(2, 1, "", true)}},
		}, "", []string{running, completed, `id: 1.1.AQ event: log data: {"attempt":1,"rank":0,"text":"a\n"}`, whole}, 4 * time.Second, nil},
		{"output that never comes", script{
			states: []step[v1.Job]{{value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{after: time.Second, value: chunk(1, 0, "a", true)}},
		}, "", []string{completed, `id: 1.1.AQ event: log data: {"attempt":1,"rank":0,"text":"a"}`, alive, cut}, 9 * time.Second, nil},
		{"resumed behind an end of output", script{
			states: []step[v1.Job]{{value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{after: time.Second, value: chunk(9, 1, "b", true)}},
		}, "8.1.AQ", []string{completed, `id: 9.1.Aw event: log data: {"attempt":1,"rank":1,"text":"b"}`, whole}, time.Second, nil},
		{"output that starts over", script{
			states: []step[v1.Job]{{value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{after: time.Second, value: Chunk{Seq: 1, Attempt: 1, Rank: 1, Text: []byte("b"), Gap: "lost", Again: true, EOF: true}}, {after: time.Second, value: chunk(2, 0, "a", true)}},
		}, "8.1.AQ", []string{completed, `event: gap data: {"attempt":1,"rank":1,"text":"lost"}`,
			`id: 1.1.Ag event: log data: {"attempt":1,"rank":1,"text":"b"}`, `id: 2.1.Aw event: log data: {"attempt":1,"rank":0,"text":"a"}`, whole}, 2 * time.Second, nil},
		{"gap", script{
			states: []step[v1.Job]{{value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{after: time.Second, value: Chunk{Seq: 1, Attempt: 1, Gap: "rotated", EOF: true}}, {value: chunk(2, 1, "", true)}},
		}, "", []string{completed, `id: 1.1.AQ event: gap data: {"attempt":1,"rank":0,"text":"rotated"}`, whole}, time.Second, nil},
		{"never started", script{states: []step[v1.Job]{{value: unstarted}}}, "",
			[]string{`event: status data: {"status":"Canceled"}`, `event: end data: {"status":"Canceled","log_complete":true}`}, 0, nil},
		{"heartbeats", script{
			states: []step[v1.Job]{{value: state(protocol.Running)}, {after: 11 * time.Second, value: state(protocol.Completed)}},
			chunks: []step[Chunk]{{value: chunk(1, 0, "", true)}, {value: chunk(2, 1, "", true)}},
		}, "", []string{running, alive, alive, completed, whole}, 11 * time.Second, nil},
		{"broken store", script{
			states: []step[v1.Job]{{value: state(protocol.Running)}},
			chunks: []step[Chunk]{{after: time.Second, err: broken}},
		}, "", []string{running}, time.Second, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events, took, err := run(t, tc.script, tc.from)
			if diff := cmp.Diff(tc.want, events); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if took != tc.took || !errors.Is(err, tc.err) {
				t.Errorf("took %v, want %v; error %v, want %v", took, tc.took, err, tc.err)
			}
		})
	}
}

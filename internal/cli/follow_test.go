package cli

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

func status(s protocol.State, reason string) client.Event {
	e := &v1.StatusEvent{Status: s, Attempt: 1}
	if reason != "" {
		e.Reason = protocol.NewReason(protocol.WaitingForRoom, "%s", reason)
	}
	return client.Event{Status: e}
}

func output1(attempt, rank int, text string) client.Event {
	return client.Event{Log: &v1.LogEvent{Attempt: attempt, Rank: rank, Text: text}}
}

func end(s protocol.State, complete bool) client.Event {
	return client.Event{End: &v1.StatusEvent{Status: s, Attempt: 1, LogComplete: complete}}
}

func stream(events ...client.Event) iter.Seq2[client.Event, error] {
	return func(yield func(client.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// run follows the events of a job and returns what was printed.
func run(t *testing.T, ctx context.Context, ranks int, events iter.Seq2[client.Event, error]) (out, errs string, err error) {
	t.Helper()
	a, outBuffer, errBuffer := testApp(false, nil)
	f := &follower{a: a, name: "iris", ranks: ranks, line: a.newLine()}
	err = f.run(ctx, events)
	return outBuffer.String(), errBuffer.String(), err
}

func TestFollow(t *testing.T) {
	out, errs, err := run(t, t.Context(), 1, stream(
		status(protocol.Queued, "onprem is full"), status(protocol.Queued, "onprem is full"), status(protocol.Running, ""),
		output1(1, 0, "one\ntw"), output1(1, 0, "o\n"), status(protocol.Finalizing, ""), output1(1, 0, "last"), end(protocol.Completed, true)))
	if err != nil {
		t.Error(err)
	}
	wantOut := `RunId: iris

Streaming user_logs/std_log.txt
===============================

one
two
last

Execution Summary
=================
RunId: iris
Status: Completed
`
	if diff := cmp.Diff(wantOut, out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("Queued: WaitingForRoom: onprem is full\nRunning\nFinalizing\nCompleted\n", errs); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
}

func TestFollowRanksGapsAttemptsAndFailure(t *testing.T) {
	gap := client.Event{Gap: &v1.LogEvent{Attempt: 1, Rank: 1, Text: "rotated\x1b away"}}
	lost := client.Event{Lost: errors.New("reset")}
	code := 3
	failed := client.Event{End: &v1.StatusEvent{Status: protocol.Failed, Attempt: 2, ExitCode: &code, Reason: protocol.NewReason(protocol.ExitCode, "exit code 3")}}
	out, errs, err := run(t, t.Context(), 2, stream(
		output1(1, 0, "a\nb"), output1(1, 1, "c\n"), gap, output1(1, 1, "d\n"), lost, output1(2, 0, "e\nf"), output1(2, 0, "g\n"), failed))
	var e ended
	if !errors.As(err, &e) || e.state != protocol.Failed {
		t.Errorf("error %v", err)
	}
	_, body, _ := strings.Cut(out, "=\n\n")
	want := `[0] a
[0] b
[1] c
[output lost: rotated� away]
[1] d
[attempt 2]
[0] e
[0] fg

Execution Summary
=================
RunId: iris
Status: Failed
Reason: ExitCode: exit code 3
Exit code: 3
Output: incomplete; its end did not arrive
`
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !strings.Contains(errs, "trying again: reset") {
		t.Errorf("stderr %q", errs)
	}
}

func TestFollowWithoutOutput(t *testing.T) {
	out, _, err := run(t, t.Context(), 1, stream(status(protocol.Queued, ""), end(protocol.Canceled, false)))
	var e ended
	if !errors.As(err, &e) || e.state != protocol.Canceled {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff("RunId: iris\n\nExecution Summary\n=================\nRunId: iris\nStatus: Canceled\n", out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestFollowOutputGone: of a job that ran, the summary tells why there is no
// output above it.
func TestFollowOutputGone(t *testing.T) {
	code := 3
	failed := client.Event{End: &v1.StatusEvent{Status: protocol.Failed, Attempt: 1, ExitCode: &code}}
	for name, events := range map[string][]client.Event{
		"ended with a code": {failed},
		"seen running":      {status(protocol.Running, ""), end(protocol.Canceled, false)},
		"completed":         {status(protocol.Completed, ""), end(protocol.Completed, false)},
	} {
		if out, _, _ := run(t, t.Context(), 1, stream(events...)); !strings.HasSuffix(out, "\nOutput: no longer kept, or it never arrived\n") {
			t.Errorf("%s: %s", name, out)
		}
	}
	silent := []client.Event{status(protocol.Running, ""), end(protocol.Completed, true)}
	if out, _, _ := run(t, t.Context(), 1, stream(silent...)); strings.Contains(out, "Output:") {
		t.Errorf("a job that wrote nothing: %s", out)
	}
}

// TestFollowInterrupted: Ctrl-C says that the job goes on, also in the middle
// of a line.
func TestFollowInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, _, err := run(t, ctx, 1, func(yield func(client.Event, error) bool) {
		yield(output1(1, 0, "half"), nil)
		cancel()
		yield(client.Event{}, ctx.Err())
	})
	if !errors.As(err, new(detached)) {
		t.Errorf("error %v", err)
	}
	if !strings.HasSuffix(out, "half\n") {
		t.Errorf("stdout %q", out)
	}
}

func TestFollowBroken(t *testing.T) {
	for name, events := range map[string]iter.Seq2[client.Event, error]{
		"error":  func(yield func(client.Event, error) bool) { yield(client.Event{}, errors.New("gone")) },
		"no end": stream(status(protocol.Running, "")),
	} {
		_, _, err := run(t, t.Context(), 1, events)
		if !errors.As(err, new(hinted)) {
			t.Errorf("%s: error %v, want one with a hint", name, err)
		}
	}
}

// room is a disk with room for n more bytes.
type room struct {
	n   int
	err error
}

func (r *room) Write(p []byte) (int, error) {
	if r.n -= len(p); r.n < 0 {
		return 0, r.err
	}
	return len(p), nil
}

// TestFollowUnwritten: output that cannot be written, be it the first or the
// last of it, is an error of its own, whatever became of the job.
func TestFollowUnwritten(t *testing.T) {
	all := []client.Event{status(protocol.Running, ""), output1(1, 0, "one\n"), end(protocol.Failed, true)}
	whole, _, _ := run(t, t.Context(), 1, stream(all...))
	for n := range len(whole) {
		disk := errors.New("no space left")
		a, _, errs := testApp(false, nil)
		a.io.Out = &room{n, disk}
		f := &follower{a: a, name: "iris", ranks: 1, line: a.newLine()}
		err := f.run(t.Context(), stream(all...))
		if !errors.Is(err, disk) {
			t.Fatalf("room for %d bytes: error %v", n, err)
		}
		if code := a.report(err); code != exitError || !strings.Contains(errs.String(), "error: print the output of job iris: no space left\n  hint: ") {
			t.Fatalf("room for %d bytes: code %d: %s", n, code, errs)
		}
	}
}

package cli

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// follow prints a job's output to stdout, framed as az frames it, and its
// states to stderr, until it ends. The error is ended unless it completed.
// Output that cannot be written ends it at once, with that error.
func (a *app) follow(ctx context.Context, relay *client.Client, job v1.Job) error {
	f := &follower{a: a, name: job.Name, ranks: job.Resources.InstanceCount, ran: job.StartTime != nil, line: a.newLine()}
	f.line.start()
	defer f.line.stop()
	return f.run(ctx, relay.Stream(ctx, job.Name, ""))
}

// follower prints the events of one job.
type follower struct {
	a       *app
	name    string
	ranks   int
	line    *line
	status  string // last told
	ran     bool   // the job was seen to have run
	begun   bool   // the head of the output is printed
	attempt int    // of the last output
	rank    int    // of the last output
	partial bool   // the last output had no end of line
	err     error  // of the first write to stdout that failed
}

// run prints the events until the job's end, and then the summary.
func (f *follower) run(ctx context.Context, events iter.Seq2[client.Event, error]) error {
	f.printf("RunId: %s\n", f.name)
	for event, err := range events {
		switch {
		case ctx.Err() != nil:
			f.close()
			return detached{f.name}
		case err != nil:
			f.close()
			return hinted{err, "the job is not affected; follow it again: trainrelay job stream -n " + f.name}
		case event.End != nil:
			return f.end(event.End)
		}
		f.show(event)
		if f.err != nil {
			f.close()
			return f.unwritten()
		}
	}
	f.close()
	if ctx.Err() != nil {
		return detached{f.name}
	}
	return hinted{fmt.Errorf("the stream of job %s broke off before its end", f.name), "follow it again: trainrelay job stream -n " + f.name}
}

func (f *follower) printf(format string, args ...any) {
	if f.err == nil {
		f.line.hide(func() { _, f.err = fmt.Fprintf(f.a.io.Out, format, args...) })
	}
}

// unwritten is the error of stdout.
func (f *follower) unwritten() error {
	return hinted{fmt.Errorf("print the output of job %s: %w", f.name, f.err), "the job is not affected; follow it again: trainrelay job stream -n " + f.name}
}

func (f *follower) notef(format string, args ...any) {
	f.line.hide(func() { f.a.notef(format, args...) })
}

func (f *follower) show(event client.Event) {
	switch {
	case event.Status != nil:
		f.tell(event.Status)
	case event.Log != nil:
		f.log(event.Log)
	case event.Gap != nil:
		f.begin(event.Gap.Attempt)
		f.finishLine()
		f.printf("[output lost: %s]\n", oneLine(event.Gap.Text))
	case event.Lost != nil:
		f.notef("connection to the relay lost, trying again: %s", oneLine(event.Lost.Error()))
	}
}

// tell prints a state when it, or its reason, is new.
func (f *follower) tell(s *v1.StatusEvent) {
	if s.ExitCode != nil || s.Status == protocol.Running || s.Status == protocol.Completed {
		f.ran = true
	}
	status := describe(s)
	if status == f.status {
		return
	}
	f.status = status
	f.finishLine()
	f.notef("%s", status)
	f.line.set("")
	if !s.Status.Terminal() && s.Status != protocol.Running {
		f.line.set(string(s.Status))
	}
}

// describe is a state with its reason.
func describe(s *v1.StatusEvent) string {
	text := string(s.Status)
	if s.Attempt > 1 {
		text += fmt.Sprintf(" (attempt %d)", s.Attempt)
	}
	if s.Reason != nil {
		text += ": " + oneLine(s.Reason.String())
	}
	return text
}

// begin prints the head of the output, once, and a mark for each new attempt.
func (f *follower) begin(attempt int) {
	if !f.begun {
		f.begun = true
		f.line.set("")
		f.printf("\nStreaming user_logs/std_log.txt\n===============================\n\n")
	} else if attempt != f.attempt {
		f.finishLine()
		f.printf("[attempt %d]\n", attempt)
	}
	f.attempt = attempt
}

// log prints a run of output; with several ranks each line says whose it is.
func (f *follower) log(l *v1.LogEvent) {
	f.begin(l.Attempt)
	if l.Text == "" {
		return
	}
	if f.ranks <= 1 {
		f.printf("%s", l.Text)
		f.partial = !strings.HasSuffix(l.Text, "\n")
		return
	}
	if l.Rank != f.rank {
		f.finishLine()
		f.rank = l.Rank
	}
	var b strings.Builder
	for text := range strings.Lines(l.Text) {
		if !f.partial {
			fmt.Fprintf(&b, "[%d] ", l.Rank)
		}
		b.WriteString(text)
		f.partial = !strings.HasSuffix(text, "\n")
	}
	f.printf("%s", b.String())
}

// finishLine ends a line of output before something else is printed.
func (f *follower) finishLine() {
	if f.partial {
		f.printf("\n")
		f.partial = false
	}
}

func (f *follower) close() {
	f.finishLine()
	f.line.stop()
}

// end prints the summary.
func (f *follower) end(s *v1.StatusEvent) error {
	f.tell(s)
	f.close()
	f.printf("\nExecution Summary\n=================\nRunId: %s\nStatus: %s\n", f.name, s.Status)
	if s.Reason != nil {
		f.printf("Reason: %s\n", oneLine(s.Reason.String()))
	}
	if s.ExitCode != nil {
		f.printf("Exit code: %d\n", *s.ExitCode)
	}
	switch {
	case s.LogComplete:
	case f.begun:
		f.printf("Output: incomplete; its end did not arrive\n")
	case f.ran:
		f.printf("Output: no longer kept, or it never arrived\n")
	}
	if f.err != nil {
		return f.unwritten()
	}
	if s.Status == protocol.Completed {
		return nil
	}
	return ended{f.name, s.Status, s.Reason}
}

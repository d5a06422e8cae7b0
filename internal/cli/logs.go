package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type logsCommands struct {
	Query logsQuery `cmd:"" help:"Search the output of jobs, oldest line first."`
}

type logsQuery struct {
	Grep  string `help:"Only lines that this regular expression matches, in the syntax of RE2; (?i) in front ignores case." placeholder:"RE"`
	Job   string `help:"Only output of this job." placeholder:"NAME"`
	Since moment `help:"Only lines that are not older: a time such as 1h or 7d, or 2006-01-02T15:04:05Z." placeholder:"TIME"`
	Until moment `help:"Only lines that are not newer, likewise." placeholder:"TIME"`
	Limit int    `default:"1000" help:"At most so many lines; 0 for all." placeholder:"N"`
	Tail  int    `help:"Only the newest so many, at most 10000." placeholder:"N"`
	output
}

// maxTail is what the relay gives at a time.
const maxTail = 10_000

var logColumns = []column{
	{"Time", "time"}, {"Job", "job"}, {"Attempt", "attempt"}, {"Rank", "rank"}, {"Line", "line"}, {"Gap", "gap"},
}

func (c *logsQuery) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if _, err := regexp.Compile(c.Grep); err != nil {
		return usage{fmt.Errorf("--grep %q: %w", c.Grep, err), "the syntax is that of https://github.com/google/re2/wiki/Syntax"}
	}
	if c.Limit < 0 || c.Tail < 0 || c.Tail > maxTail {
		return usage{fmt.Errorf("--limit is 0 or more, --tail 0 to %d", maxTail), ""}
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	now := time.Now()
	q := client.LogQuery{Grep: c.Grep, Job: c.Job, Since: c.Since.from(now), Until: c.Until.from(now), Limit: c.Limit}
	lines := relay.Logs(ctx, q)
	switch {
	case c.Tail > 0:
		q.Limit = c.Tail
		newest, truncated, err := relay.LogTail(ctx, q)
		if err != nil {
			return err
		}
		if truncated {
			a.notef("older lines are left out: there are too many to look through, or they are too long; narrow the search with --since, --until or --job")
		}
		lines = all(newest)
	case c.Limit > 0:
		q.Limit++ // to know whether there are more
		lines = a.upTo(c.Limit, relay.Logs(ctx, q))
	}
	if c.Format == "" && c.Query == "" {
		return a.printLines(lines)
	}
	found := []v1.LogLine{}
	for line, err := range lines {
		if err != nil {
			return err
		}
		found = append(found, line)
	}
	return a.print(c.output, found, formatJSON, logColumns)
}

// all yields lines that are there.
func all(lines []v1.LogLine) iter.Seq2[v1.LogLine, error] {
	return func(yield func(v1.LogLine, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}
}

// upTo yields at most so many lines, and says so where there are more.
func (a *app) upTo(limit int, lines iter.Seq2[v1.LogLine, error]) iter.Seq2[v1.LogLine, error] {
	return func(yield func(v1.LogLine, error) bool) {
		n := 0
		for line, err := range lines {
			if n++; err == nil && n > limit {
				a.notef("these are the oldest %d lines, and there are more; --tail %d shows the newest, --limit 0 all", limit, limit)
				return
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// printLines prints lines as they come, for people: when, whose, and what. Where
// output was lost it says so on stderr.
func (a *app) printLines(lines iter.Seq2[v1.LogLine, error]) error {
	out := bufio.NewWriter(a.io.Out)
	for line, err := range lines {
		if err != nil {
			return errors.Join(out.Flush(), err)
		}
		whose := fmt.Sprintf("%s %s/%d", line.Time.UTC().Format(time.RFC3339), line.Job, line.Rank)
		if line.Gap != "" {
			a.notef("%s  [output lost: %s]", whose, oneLine(line.Gap))
			continue
		}
		if _, err := io.WriteString(out, whose+"  "+line.Line+"\n"); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// moment is a time: how long ago, or when.
type moment struct {
	ago time.Duration
	at  time.Time
}

// UnmarshalText reads a moment.
func (m *moment) UnmarshalText(text []byte) error {
	var ago span
	if ago.UnmarshalText(text) == nil {
		m.ago = time.Duration(ago)
		return nil
	}
	var err error
	if m.ago, err = time.ParseDuration(string(text)); err == nil && m.ago > 0 {
		return nil
	}
	m.ago = 0
	if m.at, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return fmt.Errorf("%q is not a time such as 7d, 1h or 90s, or 2006-01-02T15:04:05Z", text)
	}
	return nil
}

// from is the moment, seen from now; zero where none was given.
func (m moment) from(now time.Time) time.Time {
	if m.ago > 0 {
		return now.Add(-m.ago)
	}
	return m.at
}

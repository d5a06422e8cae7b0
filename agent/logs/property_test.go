package logs

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// script is one life of a container and of those who read its log.
type script struct {
	cuts    []cut
	fates   []error
	rotates bool
	entries []scripted
}

// scripted is an entry, and what happens after it.
type scripted struct {
	later, disorder time.Duration // after the entry before; what its timestamp is behind
	filler          int           // characters
	complete        bool          // ends a line
	pause           time.Duration
	restart         bool // of the agent
	rotated         int  // share of the entries so far that a rotation takes, in tenths
}

func drawScript(rt *rapid.T) script {
	return script{
		cuts: rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) cut {
			return cut{after: rapid.IntRange(1, 3000).Draw(rt, "after"), orderly: rapid.Bool().Draw(rt, "orderly")}
		}), 0, 12).Draw(rt, "cuts"),
		fates:   rapid.SliceOfN(rapid.SampledFrom([]error{nil, nil, errLostRequest, errLostAnswer}), 0, 30).Draw(rt, "fates"),
		rotates: rapid.Bool().Draw(rt, "rotates"),
		entries: rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) scripted {
			return scripted{
				later:    rapid.SampledFrom([]time.Duration{0, 0, 1, time.Millisecond, 900 * time.Millisecond, 7 * time.Second}).Draw(rt, "later"),
				disorder: rapid.SampledFrom([]time.Duration{0, 0, 0, 1, time.Second, 2 * time.Second}).Draw(rt, "disorder"),
				filler:   rapid.SampledFrom([]int{0, 1, 300, pieceSize - 4, pieceSize, 40_000}).Draw(rt, "filler"),
				complete: rapid.IntRange(0, 3).Draw(rt, "complete") > 0,
				pause:    time.Duration(rapid.IntRange(0, 400).Draw(rt, "ms")) * time.Millisecond,
				restart:  rapid.IntRange(0, 9).Draw(rt, "restart") == 0,
				rotated:  rapid.IntRange(0, 10).Draw(rt, "rotated"),
			}
		}), 1, 50).Draw(rt, "entries"),
	}
}

// Whatever is cut, lost and restarted, the relay has exactly the output. Where
// the log was rotated, it has runs of it in order, with a gap wherever it
// lacks something.
func TestExactlyTheOutput(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := drawScript(rt)
		var wrong error
		synctest.Test(t, func(t *testing.T) { wrong = play(t, script) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func play(t *testing.T, script script) error {
	k, r := newKubelet(), newRelay()
	k.cuts, r.fates = script.cuts, script.fates
	client, stopKubelet := k.client(t)
	defer stopKubelet()
	_, stop := follow(t, client, r, iris)
	var want strings.Builder
	clock := time.Date(2026, 1, 2, 3, 4, 5, 999_000_000, time.UTC)
	for i, e := range script.entries {
		clock = clock.Add(e.later)
		text := fmt.Sprintf("[%d]", i) + strings.Repeat("x", e.filler)
		if e.complete {
			text += "\n"
		}
		want.WriteString(text)
		stamp := clock.Add(-e.disorder)
		if i > 0 && !script.entries[i-1].complete {
			stamp = later(stamp, k.entries[i-1].at) // parts of a line are in order
		}
		k.write(stamp, text)
		time.Sleep(e.pause)
		if !e.restart {
			continue
		}
		stop()
		if script.rotates {
			k.change(func() { k.rotate((i + 1) * e.rotated / 10) })
		}
		_, stop = follow(t, client, r, iris)
	}
	stop()
	k.change(func() { k.ended, k.cuts = true, k.cuts[:min(1, len(k.cuts))] })
	ended := iris
	ended.Ended = true
	_, stop = follow(t, client, r, ended)
	<-r.done
	stop()
	if script.rotates {
		return checkRuns(r.got(), want.String())
	}
	if got := r.got(); got != want.String() || len(r.gaps) > 0 {
		return fmt.Errorf("gaps %q, diff -want +got:\n%s", r.gaps, cmp.Diff(short(want.String()), short(got)))
	}
	return nil
}

// checkRuns checks that got is made of runs of want, in order, and that
// nothing between two of them or at the end is missing without a gap. What was
// lost before anything was read cannot be known.
func checkRuns(got, want string) error {
	rest := want
	for i, run := range strings.Split(got, gapMark) {
		at := strings.Index(rest, run)
		if at < 0 {
			return fmt.Errorf("run %d is not in the rest of the output: got\n%s\nof\n%s", i, short(got), short(want))
		}
		rest = rest[at+len(run):]
	}
	if got != "" && rest != "" && !strings.HasSuffix(got, gapMark) {
		return fmt.Errorf("the end is missing without a gap: got\n%s\nof\n%s", short(got), short(want))
	}
	return nil
}

// short makes long lines readable.
func short(s string) string {
	for _, n := range []int{40_000, pieceSize, pieceSize - 4, 300} {
		s = strings.ReplaceAll(s, strings.Repeat("x", n), fmt.Sprintf("x*%d", n))
	}
	return s
}

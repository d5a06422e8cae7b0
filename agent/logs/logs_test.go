package logs

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
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

func TestLinesComeAsTheyAppear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		client, stopKubelet := k.client(t)
		_, stop := follow(t, client, r, iris)
		for i := range 10 {
			k.write(time.Now(), fmt.Sprintf("epoch %d\n", i))
			time.Sleep(time.Second)
			if !strings.HasSuffix(r.got(), fmt.Sprintf("epoch %d\n", i)) {
				t.Fatalf("a second after epoch %d the relay has %q", i, r.got())
			}
		}
		before := r.chunks
		for range 1000 {
			k.write(time.Now(), "a busy loop\n")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := r.chunks - before; n > 8 {
			t.Errorf("%d chunks for a second of output", n)
		}
		stop()
		stopKubelet()
	})
}

// ended says how a container's end is told, and what the relay makes of it.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    func(k *kubelet, p *Pod)
		fresh  bool // a new agent comes only after the end
		eof    bool
		gapped bool
		want   string
	}{
		{name: "ended", end: func(k *kubelet, p *Pod) { k.ended, p.Ended = true, true }, eof: true, want: "one\ntwo"},
		{name: "ended and deleted after all was read", end: func(k *kubelet, p *Pod) { k.ended, k.deleted, p.Ended = true, true, true }, eof: true, want: "one\n"},
		{name: "deleted before it was read", end: func(k *kubelet, p *Pod) { k.ended, k.deleted, p.Ended = true, true, true }, fresh: true, eof: true, gapped: true, want: gapMark},
		{name: "disrupted", end: func(k *kubelet, p *Pod) { k.ended, p.Ended, p.Disrupted = true, true, true }, want: "one\n"},
		{name: "the log is gone", end: func(k *kubelet, p *Pod) { k.rotated, k.ended, p.Ended = 2, true, true }, eof: true, want: "one\n" + gapMark, gapped: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, r := newKubelet(), newRelay()
				client, stopKubelet := k.client(t)
				k.write(time.Now(), "one\n")
				k.write(time.Now(), "two")
				pod := iris
				var l *Logs
				stop := func() {}
				if !tt.fresh {
					l, stop = follow(t, client, r, pod)
					time.Sleep(time.Second)
				}
				if tt.name == "the log is gone" {
					stop()
				}
				k.change(func() { tt.end(k, &pod) })
				if tt.fresh || tt.name == "the log is gone" {
					_, stop = follow(t, client, r, pod)
				} else {
					l.Sync([]Pod{pod})
				}
				time.Sleep(5 * time.Minute)
				if r.got() != tt.want || r.eof != tt.eof || (len(r.gaps) > 0) != tt.gapped {
					t.Errorf("the relay has %q, eof %v, gaps %q", r.got(), r.eof, r.gaps)
				}
				opened := k.opened
				time.Sleep(time.Hour)
				if k.opened != opened {
					t.Error("the log is still read after its end")
				}
				stop()
				stopKubelet()
			})
		})
	}
}

// A pod that leaves the set is either deleted, and then its output has an end,
// or another agent's, and then it has not.
func TestReleasedPod(t *testing.T) {
	for _, deleted := range []bool{true, false} {
		t.Run(fmt.Sprintf("deleted %v", deleted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, r := newKubelet(), newRelay()
				client, stopKubelet := k.client(t)
				l, stop := follow(t, client, r, iris)
				time.Sleep(time.Second)
				k.write(time.Now(), "last words\n")
				k.change(func() { k.ended, k.deleted = deleted, deleted })
				l.Sync(nil)
				time.Sleep(time.Minute)
				if r.got() != "last words\n" || r.eof != deleted || len(r.gaps) > 0 {
					t.Errorf("the relay has %q, eof %v, gaps %q", r.got(), r.eof, r.gaps)
				}
				stop()
				stopKubelet()
			})
		})
	}
}

func TestTheRelayMayStopIt(t *testing.T) {
	for name, fate := range map[string]error{
		"unknown attempt": errUnknown,
		"refused":         &protocol.Refusal{Message: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, r := newKubelet(), newRelay()
				client, stopKubelet := k.client(t)
				r.fates = []error{nil, fate}
				l, stop := follow(t, client, r, iris)
				k.write(time.Now(), "one\n")
				time.Sleep(time.Minute)
				l.Sync([]Pod{iris}) // still there: no reason to begin again
				time.Sleep(time.Minute)
				if r.got() != "" || k.opened != 1 {
					t.Errorf("the relay has %q; the log was opened %d times", r.got(), k.opened)
				}
				stop()
				stopKubelet()
			})
		})
	}
}

// A single pod that was disrupted is replaced under the same rank: its
// successor's log knows nothing of the position.
func TestSuccessorGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		r.at = protocol.LogPosition{Time: time.Now().Add(-time.Hour), Lines: 3}
		client, stopKubelet := k.client(t)
		pod := iris
		pod.ContainerStarted = time.Now()
		_, stop := follow(t, client, r, pod)
		k.write(time.Now(), "again from the beginning\n")
		time.Sleep(time.Second)
		if r.got() != "again from the beginning\n" || len(r.gaps) > 0 {
			t.Errorf("the relay has %q, gaps %q", r.got(), r.gaps)
		}
		stop()
		stopKubelet()
	})
}

// After a power cut the relay is at an older position, and gets again what it
// lost.
func TestRelayThatForgot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		client, stopKubelet := k.client(t)
		_, stop := follow(t, client, r, iris)
		var want strings.Builder
		for i := range 10 {
			line := fmt.Sprintf("epoch %d\n", i)
			want.WriteString(line)
			k.write(time.Now(), line)
			time.Sleep(time.Second)
			if i == 3 {
				r.mu.Lock()
				r.at, r.text = protocol.LogPosition{}, strings.Builder{}
				r.mu.Unlock()
			}
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff(want.String(), r.got()); diff != "" {
			t.Error(diff)
		}
		stop()
		stopKubelet()
	})
}

// While a pod passes from the leader to its own node's agent, both follow it.
func TestTwoAgentsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		client, stopKubelet := k.client(t)
		_, stop := follow(t, client, r, iris)
		_, stopOther := follow(t, client, r, iris)
		var want strings.Builder
		for i := range 200 {
			line := fmt.Sprintf("epoch %d\n", i)
			want.WriteString(line)
			k.write(time.Now(), line)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff(want.String(), r.got()); diff != "" {
			t.Error(diff)
		}
		stop()
		stopOther()
		stopKubelet()
	})
}

// A complete line does not wait for the unfinished one behind it.
func TestUnfinishedLineHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		k.entries = []entry{{time.Now(), "epoch 1\n"}, {time.Now(), "progress: 1%"}}
		client, stopKubelet := k.client(t)
		_, stop := follow(t, client, r, iris)
		time.Sleep(time.Second)
		if r.got() != "epoch 1\n" {
			t.Errorf("the relay has %q", r.got())
		}
		stop()
		stopKubelet()
	})
}

// While the relay is away, no more is read than fits into two chunks.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		for range 1000 {
			r.fates = append(r.fates, errLostRequest)
		}
		r.fates[0] = nil // the question for the position
		client, stopKubelet := k.client(t)
		for range 1000 {
			k.entries = append(k.entries, entry{time.Now(), strings.Repeat("x", 1023) + "\n"})
		}
		served := 0
		k.cuts = []cut{{after: 400 << 10}}
		_, stop := follow(t, client, r, iris)
		time.Sleep(10 * time.Minute)
		k.mu.Lock()
		served = k.opened
		k.mu.Unlock()
		if served != 1 {
			t.Errorf("400 KiB were read while the relay took nothing (%d readings)", served)
		}
		r.mu.Lock()
		r.fates = nil
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if len(r.got()) != 1000<<10 {
			t.Errorf("%d bytes came through once the relay was back", len(r.got()))
		}
		stop()
		stopKubelet()
	})
}

func TestAssign(t *testing.T) {
	pods := []Pod{{Name: "a", Node: "n1"}, {Name: "b", Node: "n2"}, {Name: "c", Node: "n3"}, {Name: "d"}}
	ready := map[string]bool{"n1": true, "n2": true}
	for _, tt := range []struct {
		self    string
		leading bool
		want    string
	}{{"n1", false, "a"}, {"n2", true, "bc"}, {"n4", false, ""}} {
		got := ""
		for _, p := range Assign(pods, ready, tt.self, tt.leading) {
			got += p.Name
		}
		if got != tt.want {
			t.Errorf("Assign to %s (leading %v) = %s, want %s", tt.self, tt.leading, got, tt.want)
		}
	}
}

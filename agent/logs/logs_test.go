package logs

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

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
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		client, stopKubelet := k.client(t)
		r.fates = []error{nil, &protocol.Refusal{Message: "no"}}
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
}

// A relay that was restored from a backup does not know the attempt before the
// cluster told of it: the output is kept back, and comes then.
func TestUnknownAttemptIsAskedForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKubelet(), newRelay()
		client, stopKubelet := k.client(t)
		r.fates = []error{nil, errUnknown, errUnknown}
		_, stop := follow(t, client, r, iris)
		k.write(time.Now(), "one\n")
		time.Sleep(unknownPause / 2)
		if r.got() != "" {
			t.Errorf("the relay has %q before it was asked again", r.got())
		}
		time.Sleep(4 * unknownPause)
		if r.got() != "one\n" || len(r.gaps) > 0 {
			t.Errorf("the relay has %q, gaps %q", r.got(), r.gaps)
		}
		stop()
		stopKubelet()
	})
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

package protocol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawHistory draws what agents may say of one attempt: observations of any
// terms and counts, and at most one end, which leaders that start anew derive
// again under newer versions.
func drawHistory(t *rapid.T) []Event {
	ref := Ref{Job: "j", Attempt: 1}
	version := rapid.Custom(func(t *rapid.T) Version {
		return Version{Term: rapid.Uint64Range(1, 3).Draw(t, "term"), Seq: rapid.Uint64Range(1, 6).Draw(t, "seq")}
	})
	var history []Event
	seen := map[Version]bool{}
	add := func(e Event, v Version) {
		if e.Ref, e.Version = ref, v; !seen[v] { // one leader never uses a version twice
			seen[v] = true
			history = append(history, e)
		}
	}
	for range rapid.IntRange(0, 8).Draw(t, "observations") {
		state := rapid.SampledFrom([]State{Queued, Preparing, Running, Finalizing}).Draw(t, "state")
		add(Event{State: state}, version.Draw(t, "version"))
	}
	end := rapid.SampledFrom([]Event{{State: Completed}, {State: Failed}, {State: Failed, Retry: true}, {State: Canceled}}).Draw(t, "end")
	for range rapid.IntRange(0, 3).Draw(t, "ends") {
		add(end, version.Draw(t, "end's version"))
	}
	return history
}

func fold(events []Event) Progress {
	var p Progress
	for _, e := range events {
		p, _ = p.Fold(e)
	}
	return p
}

// TestFoldIsAJoin: any order and any repetition of an attempt's events lead to
// the same progress (I4).
func TestFoldIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := drawHistory(t)
		want := fold(history)
		shuffled := rapid.Permutation(append(history, history...)).Draw(t, "delivered")
		if diff := cmp.Diff(want, fold(shuffled)); diff != "" {
			t.Fatalf("order or repetition changed the outcome (-sent +delivered):\n%s", diff)
		}
	})
}

// TestEndIsFinal: whatever is said after an end, even by an agent that
// contradicts itself, the state stays that end (I1).
func TestEndIsFinal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fold(drawHistory(t))
		for _, e := range drawHistory(t) {
			before, _ := p.State()
			p, _ = p.Fold(e)
			if after, _ := p.State(); !before.CanBecome(after) {
				t.Fatalf("%s became %s by %+v", before, after, e)
			}
		}
	})
}

func TestConflictingEndIsSeen(t *testing.T) {
	p := fold([]Event{{State: Completed, Version: Version{2, 1}}})
	for _, tc := range []struct {
		name string
		e    Event
		want bool
	}{
		{"the same end of a later leader", Event{State: Completed, Version: Version{3, 1}}, false},
		{"another end", Event{State: Failed, Version: Version{1, 1}}, true},
		{"no end", Event{State: Running, Version: Version{9, 9}}, false},
	} {
		if got := p.Conflicts(tc.e); got != tc.want {
			t.Errorf("%s: Conflicts = %v, want %v", tc.name, got, tc.want)
		}
		if next, _ := p.Fold(tc.e); next.End.State != Completed {
			t.Errorf("%s: end became %s", tc.name, next.End.State)
		}
	}
}

func TestFoldDoesNotModifyItsOperands(t *testing.T) {
	old := fold([]Event{{State: Running, Version: Version{1, 1}}})
	copied := *old.Latest
	if _, changed := old.Fold(Event{State: Finalizing, Version: Version{1, 2}}); !changed {
		t.Fatal("a newer observation changed nothing")
	}
	if diff := cmp.Diff(copied, *old.Latest); diff != "" {
		t.Errorf("the operand changed:\n%s", diff)
	}
}

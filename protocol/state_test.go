package protocol

import (
	"slices"
	"strings"
	"testing"
)

func TestTransitions(t *testing.T) {
	for _, s := range States() {
		next, listed := transitions[s]
		if !listed {
			t.Errorf("%s is not in the table", s)
		}
		if s.Terminal() != (len(next) == 0) {
			t.Errorf("%s: terminal %v, but may become %v", s, s.Terminal(), next)
		}
		if !s.CanBecome(s) {
			t.Errorf("%s may not stay %s", s, s)
		}
		for _, to := range next {
			if !slices.Contains(States(), to) {
				t.Errorf("%s may become %s, which is not a stored state", s, to)
			}
		}
	}
	if len(transitions) != len(States()) {
		t.Errorf("%d states in the table, %d listed", len(transitions), len(States()))
	}
	if NotResponding.observable() || CancelRequested.observable() {
		t.Error("an agent may report a state that is the relay's to write")
	}
}

// TestEveryLivingStateCanEnd: no state is a trap.
func TestEveryLivingStateCanEnd(t *testing.T) {
	for _, s := range States() {
		if s.Terminal() {
			continue
		}
		for _, end := range []State{Completed, Failed, Canceled} {
			if !s.CanBecome(end) {
				t.Errorf("%s cannot become %s", s, end)
			}
		}
	}
}

func TestDiagramShowsEveryTransition(t *testing.T) {
	d := Diagram()
	for from, next := range transitions {
		for _, to := range next {
			if line := string(from) + " --> " + string(to) + "\n"; !strings.Contains(d, line) {
				t.Errorf("the diagram lacks %q", line)
			}
		}
	}
}

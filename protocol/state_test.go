package protocol

import (
	"os"
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

// TestStatesDocument: the picture in the documents is the table's.
func TestStatesDocument(t *testing.T) {
	const file, open, end = "../docs/states.md", "```mermaid\n", "```\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), open)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no picture", file)
	}
	want := before + open + Diagram() + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not in step with the table: go test ./protocol -run TestStatesDocument -update", file)
	}
	for _, s := range append(States(), NotResponding) {
		if !strings.Contains(want, "\n| "+string(s)+" |") {
			t.Errorf("%s does not tell what %s means", file, s)
		}
	}
}

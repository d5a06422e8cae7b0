package protocol

import (
	"fmt"
	"slices"
	"strings"
)

// State is the state of a job, in the words of Azure ML's job status.
type State string

const (
	// Queued: accepted, waiting for its turn at the relay or, once claimed,
	// for a node to run on.
	Queued State = "Queued"
	// Preparing: on its way onto a node: image, code, container creation.
	Preparing State = "Preparing"
	// Running: the command runs on at least one node.
	Running State = "Running"
	// Finalizing: the command is over or being stopped; pods still wind down.
	Finalizing State = "Finalizing"
	// CancelRequested: a user asked for the end; the cluster has not confirmed it.
	CancelRequested State = "CancelRequested"

	Completed State = "Completed"
	Failed    State = "Failed"
	Canceled  State = "Canceled"

	// NotResponding stands in for the state of an unfinished, claimed job
	// whose cluster has missed its syncs. It is computed when a record is
	// read and never stored or sent.
	NotResponding State = "NotResponding"
)

// transitions is the table of legal moves of a stored state. An agent samples
// its cluster, so a state may be skipped, and a pod that lost its node goes
// back to the queue; an end is final.
var transitions = map[State][]State{
	Queued:          {Preparing, Running, Finalizing, CancelRequested, Completed, Failed, Canceled},
	Preparing:       {Queued, Running, Finalizing, CancelRequested, Completed, Failed, Canceled},
	Running:         {Queued, Preparing, Finalizing, CancelRequested, Completed, Failed, Canceled},
	Finalizing:      {Queued, Preparing, Running, CancelRequested, Completed, Failed, Canceled},
	CancelRequested: {Completed, Failed, Canceled},
	Completed:       {},
	Failed:          {},
	Canceled:        {},
}

// States lists the stored states in the order in which a job meets them.
func States() []State {
	return []State{Queued, Preparing, Running, Finalizing, CancelRequested, Completed, Failed, Canceled}
}

// Terminal reports whether s is an end.
func (s State) Terminal() bool { return s == Completed || s == Failed || s == Canceled }

// CanBecome reports whether a record in state s may next be seen in state to.
// A state may always be seen again.
func (s State) CanBecome(to State) bool {
	return s == to || slices.Contains(transitions[s], to)
}

// observable reports whether an agent may say s of an attempt.
func (s State) observable() bool {
	switch s {
	case Queued, Preparing, Running, Finalizing, Completed, Failed, Canceled:
		return true
	}
	return false
}

// Diagram renders the table of transitions as a Mermaid state diagram, for
// docs/states.md.
func Diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> Queued\n")
	for _, from := range States() {
		for _, to := range transitions[from] {
			fmt.Fprintf(&b, "    %s --> %s\n", from, to)
		}
		if from.Terminal() {
			fmt.Fprintf(&b, "    %s --> [*]\n", from)
		}
	}
	return b.String()
}

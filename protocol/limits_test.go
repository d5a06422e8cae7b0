package protocol

import (
	"strings"
	"testing"
)

// TestTextsAreBounded: what an agent says of an attempt or of itself is kept,
// so it has to fit into a record, whoever sent it.
func TestTextsAreBounded(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	event := func(change func(*Event)) error {
		e := Event{Ref: Ref{Job: "a", Attempt: 1}, Version: Version{Term: 1, Seq: 1}, State: Running}
		change(&e)
		return e.Validate()
	}
	sync := func(change func(*Sync)) error {
		s := Sync{Nonce: "n-0123456789abcdef", Session: "s-0123456789abcdef"}
		change(&s)
		return s.Validate()
	}
	for what, err := range map[string]error{
		"node":                  event(func(e *Event) { e.Node = long(MaxNode + 5) }),
		"reason":                event(func(e *Event) { e.Reason = &Reason{Message: long(MaxReason + 5)} }),
		"reason's code":         event(func(e *Event) { e.Reason = &Reason{Code: ReasonCode(long(MaxReasonCode + 1))} }),
		"agent's version":       sync(func(s *Sync) { s.Info.AgentVersion = long(MaxVersion + 1) }),
		"version of Kubernetes": sync(func(s *Sync) { s.Info.KubernetesVersion = long(MaxVersion + 1) }),
		"leader":                sync(func(s *Sync) { s.Info.Leader = long(MaxNode + 1) }),
		"problems":              sync(func(s *Sync) { s.Problems = make([]string, MaxProblems+1) }),
		"problem":               sync(func(s *Sync) { s.Problems = []string{long(MaxReason + 5)} }),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), what+": ") {
			t.Errorf("too long a %s: %v", what, err)
		}
	}
	// What was cut passes.
	if err := event(func(e *Event) {
		e.Reason = NewReason(ExitCode, "%s", long(MaxReason+99))
		e.Node = Cut(long(999), MaxNode)
	}); err != nil {
		t.Error(err)
	}
}

package records

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestStatesFollowTheTable: whatever users, relay and agents do, in any order,
// a job's state moves only as the protocol's table allows and an end stays.
func TestStatesFollowTheTable(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	observable := []protocol.State{protocol.Queued, protocol.Preparing, protocol.Running, protocol.Finalizing, protocol.Completed, protocol.Failed, protocol.Canceled}
	rapid.Check(t, func(t *rapid.T) {
		status := Status{MaxAttempts: rapid.IntRange(1, 3).Draw(t, "max attempts")}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			before, _ := status.State()
			next := status.clone()
			kept := status.clone()
			switch rapid.IntRange(0, 5).Draw(t, "action") {
			case 0:
				next.claim("c", now)
			case 1:
				next.cancel("user", nil, now)
			case 2:
				next.end(protocol.Failed, nil, now)
			case 3:
				next.adopt("c", rapid.IntRange(1, 4).Draw(t, "attempt"), now)
			default:
				next.fold(rapid.SampledFrom([]string{"c", "c", "c", "other"}).Draw(t, "cluster"), drawEvent(t, observable, now))
			}
			after, _ := next.State()
			if !before.CanBecome(after) {
				t.Fatalf("%s became %s: %+v", before, after, next)
			}
			if diff := cmp.Diff(kept, status); diff != "" {
				t.Fatalf("a change of the copy changed the record: %s", diff)
			}
			status = next
		}
	})
}

func drawEvent(t *rapid.T, states []protocol.State, now time.Time) protocol.Event {
	e := protocol.Event{
		Ref:     protocol.Ref{Job: "job", Attempt: rapid.IntRange(1, 3).Draw(t, "of attempt")},
		Version: protocol.Version{Term: uint64(rapid.IntRange(1, 2).Draw(t, "term")), Seq: uint64(rapid.IntRange(1, 9).Draw(t, "seq"))},
		State:   rapid.SampledFrom(states).Draw(t, "state"),
		Time:    now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "second")) * time.Second),
	}
	e.Retry = e.State == protocol.Failed && rapid.Bool().Draw(t, "retry")
	return e
}

// TestFoldIsAJoin: the same events of an attempt, in any order and repeated,
// leave the same record.
func TestFoldIsAJoin(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	states := []protocol.State{protocol.Queued, protocol.Preparing, protocol.Running, protocol.Finalizing}
	rapid.Check(t, func(t *rapid.T) {
		var events []protocol.Event
		for i := range rapid.IntRange(0, 6).Draw(t, "observations") {
			e := drawEvent(t, states, now)
			e.Attempt, e.Version = 1, protocol.Version{Term: 1, Seq: uint64(i + 1)}
			events = append(events, e)
		}
		if rapid.Bool().Draw(t, "ended") {
			end := drawEvent(t, []protocol.State{protocol.Completed, protocol.Failed, protocol.Canceled}, now)
			end.Attempt, end.Version = 1, protocol.Version{Term: 1, Seq: 99}
			events = append(events, end)
		}
		fold := func(events []protocol.Event) Status {
			status := Status{MaxAttempts: 3, Attempts: []Attempt{{Cluster: "c"}}}
			for _, e := range events {
				status.fold("c", e)
			}
			return status
		}
		shuffled := rapid.Permutation(append(events, events...)).Draw(t, "order")
		if diff := cmp.Diff(fold(events), fold(shuffled)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEndIsNotUndoneByASetting(t *testing.T) {
	status := Status{MaxAttempts: 1}
	status.claim("c", time.Now())
	status.fold("c", protocol.Event{Ref: protocol.Ref{Job: "job", Attempt: 1}, Version: protocol.Version{Term: 1}, State: protocol.Failed, Retry: true})
	if state, _ := status.State(); state != protocol.Failed {
		t.Errorf("after the last attempt: %s", state)
	}
	if _, ok := status.claim("c", time.Now()); ok {
		t.Error("an ended job was claimed")
	}
	if status.cancel("user", nil, time.Now()) {
		t.Error("an ended job was canceled")
	}
}

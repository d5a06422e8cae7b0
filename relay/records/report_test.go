package records

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// forged is a sync of an agent that met forged answers, the first at that time.
func forged(at time.Time, n int) *protocol.Sync {
	return &protocol.Sync{Incidents: []protocol.Incident{{Time: at, Kind: protocol.Forged, Message: "its signature is wrong", Count: n}}}
}

// TestIncidentsAreRecordedOnce: an agent tells an incident until it is
// answered, across restarts of the relay, and it counts once. Many of a kind
// make few entries, in which all of them are counted.
func TestIncidentsAreRecordedOnce(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	var mu sync.Mutex
	now := time.Now()
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	opts := Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }}
	s, stop := open(t, js, opts)
	joined(t, s, "c")
	report := func(said *protocol.Sync, want ...int) {
		t.Helper()
		news, err := s.Report(t.Context(), "c", said)
		var counts []int
		for _, i := range news {
			counts = append(counts, i.Count)
		}
		if diff := cmp.Diff(want, counts); diff != "" || err != nil {
			t.Errorf("%s %v", diff, err)
		}
	}
	total := func(want int) {
		t.Helper()
		c, err := s.Cluster(t.Context(), "c")
		if err != nil || c.Incidents == nil || c.Incidents.Count != want || c.Incidents.Last.Kind != protocol.Forged {
			t.Errorf("%+v, %v, want %d", c.Incidents, err, want)
		}
	}
	first := now.UTC().Round(0)
	report(&protocol.Sync{})
	report(forged(first, 2), 2)
	report(forged(first, 2)) // the answer got lost
	total(2)
	report(forged(first, 5)) // three more meanwhile, soon after the others
	total(5)
	pass(incidentPause)
	report(&protocol.Sync{}, 3) // their turn
	report(forged(first, 5))
	total(5)

	// As many as there may be: no more entries for that.
	for i := range 100 {
		report(forged(first.Add(time.Duration(i+1)*time.Second), 1))
	}
	total(105)
	pass(incidentPause)
	report(&protocol.Sync{}, 100)
	// Another kind does not wait for that.
	report(&protocol.Sync{Incidents: []protocol.Incident{{Time: first, Kind: "made up", Count: -5}, {Time: first, Kind: "made up, too", Count: 1 << 40}}}, maxCount)
	pass(incidentPause)

	before, err := s.Cluster(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = open(t, js, opts)
	report(forged(first.Add(100*time.Second), 1))
	after, err := s.Cluster(t.Context(), "c")
	if diff := cmp.Diff(before.Incidents, after.Incidents); diff != "" || err != nil {
		t.Errorf("after a restart: %s %v", diff, err)
	}
	report(forged(first.Add(101*time.Second), 1), 1)
}

// TestCheckIsKept: the last check is on record, as the agent tells it once.
func TestCheckIsKept(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, stop := open(t, js, Options{})
	joined(t, s, "c")
	check := &protocol.Check{Time: time.Unix(1, 0).UTC(), Results: []protocol.CheckResult{{Name: "proxy", Detail: "407", Fix: "give the password"}}}
	for _, said := range []*protocol.Sync{{Check: &protocol.Check{Time: time.Unix(0, 0)}}, {Check: check}, {}} {
		if _, err := s.Report(t.Context(), "c", said); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	s, _ = open(t, js, Options{})
	c, err := s.Cluster(t.Context(), "c")
	if diff := cmp.Diff(check, c.Check); diff != "" || err != nil || c.Incidents != (*v1.Incidents)(nil) {
		t.Errorf("%s %v", diff, err)
	}
}

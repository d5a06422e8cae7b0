package records

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

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

// TestIncidentIsAuditedFirst: an incident is in the audit log before it counts as
// written: a relay that cannot write the log, or stops in between, loses none.
func TestIncidentIsAuditedFirst(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	var written []int
	var away error
	s, _ := open(t, js, Options{Incident: func(_ context.Context, cluster string, i protocol.Incident) error {
		if cluster != "c" {
			t.Errorf("of cluster %q", cluster)
		}
		if away == nil {
			written = append(written, i.Count)
		}
		return away
	}})
	joined(t, s, "c")
	at := time.Unix(1, 0)
	away = errors.New("the disk is full")
	if news, err := s.Report(t.Context(), "c", forged(at, 2)); len(news) != 1 || !errors.Is(err, away) {
		t.Errorf("%v, %v", news, err)
	}
	if r, ok := s.setup.reports.get("c"); ok {
		t.Errorf("on record before it is in the audit log: %+v", r)
	}
	away = nil
	// The agent, which was answered, does not say it again.
	if news, err := s.Report(t.Context(), "c", &protocol.Sync{}); len(news) != 1 || err != nil {
		t.Errorf("%v, %v", news, err)
	}
	if r, _ := s.setup.reports.get("c"); !slices.Equal(written, []int{2}) || r.Incidents.Count != 2 {
		t.Errorf("written %v, on record %+v", written, r)
	}

	// A crash between the two: the record is what it was, and the agent, which
	// was not answered, says it again.
	plan := s.plan
	s.plan = unwritten{plan}
	if _, err := s.Report(t.Context(), "c", &protocol.Sync{Incidents: []protocol.Incident{{Time: at, Kind: protocol.Expired, Count: 3}}}); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	if !slices.Equal(written, []int{2, 3}) {
		t.Errorf("written %v", written)
	}
	s.plan = plan
}

// unwritten is a bucket that cannot be written.
type unwritten struct{ jetstream.KeyValue }

func (unwritten) Update(context.Context, string, []byte, uint64) (uint64, error) { return 0, errDisk }

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

package records

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

// knows waits until the store knows the job, by its watch.
func knows(t *testing.T, s *Store, job string) {
	t.Helper()
	changed, stop := s.index.watch(job)
	defer stop()
	for s.index.get(job) == nil {
		<-changed
	}
}

// TestClaimRaces: of relays and users that want the same queued jobs at the
// same time, one has each: a claim, or a cancel before it.
func TestClaimRaces(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	a, _ := open(t, js, Options{})
	withCompute(t, a)
	b, _ := open(t, js, Options{})
	const jobs = 30
	for i := range jobs {
		name := fmt.Sprint("job-", i)
		submit(t, a, sample(name))
		knows(t, b, name)
		var (
			race   sync.WaitGroup
			start  = make(chan struct{})
			claims = make(chan int, 8)
		)
		for _, s := range []*Store{a, b} {
			for range 2 {
				race.Go(func() {
					<-start
					attempt, ok, err := s.Claim(t.Context(), "c", name)
					if err != nil {
						t.Error(err)
					}
					if ok {
						claims <- attempt
					}
				})
			}
			race.Go(func() {
				<-start
				if _, err := s.Cancel(t.Context(), name, "user"); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		race.Wait()
		close(claims)
		rec, err := a.fetch(context.WithoutCancel(t.Context()), name)
		if err != nil {
			t.Fatal(err)
		}
		state, _ := rec.State()
		switch n := len(claims); {
		case n > 1:
			t.Fatalf("%s was claimed %d times", name, n)
		case n == 1 && (len(rec.Attempts) != 1 || state != protocol.CancelRequested):
			t.Fatalf("%s was claimed, then canceled: %s, %d attempts", name, state, len(rec.Attempts))
		case n == 0 && (len(rec.Attempts) != 0 || state != protocol.Canceled):
			t.Fatalf("%s was canceled first: %s, %d attempts", name, state, len(rec.Attempts))
		}
	}
}

// TestFoldRaces: of what reaches two relays at the same time nothing is lost.
func TestFoldRaces(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	a, _ := open(t, js, Options{})
	withCompute(t, a)
	b, _ := open(t, js, Options{})
	for i := range 30 {
		name := fmt.Sprint("job-", i)
		submit(t, a, sample(name))
		if _, ok, err := a.Claim(t.Context(), "c", name); !ok || err != nil {
			t.Fatal(ok, err)
		}
		event := func(seq uint64, state protocol.State) protocol.Event {
			return protocol.Event{Ref: protocol.Ref{Job: name, Attempt: 1}, Version: protocol.Version{Term: 1, Seq: seq}, State: state, Time: time.Unix(int64(seq), 0).UTC()}
		}
		running, end := event(1, protocol.Running), event(2, protocol.Completed)
		var race sync.WaitGroup
		for s, e := range map[*Store]protocol.Event{a: running, b: end} {
			race.Go(func() {
				results, err := s.Fold(t.Context(), "c", []protocol.Event{e})
				if err != nil || results[0].Outcome != protocol.Folded {
					t.Errorf("%v, %v", results, err)
				}
			})
		}
		race.Wait()
		rec, err := a.fetch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(protocol.Progress{Latest: &running, End: &end}, rec.Attempts[0].Progress); diff != "" {
			t.Fatal(diff)
		}
	}
}

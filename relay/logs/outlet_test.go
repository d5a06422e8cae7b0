package logs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func outletOf(t *testing.T, s *Store, opts OutletOptions) *Outlet {
	t.Helper()
	o, err := s.Outlet(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// drain has the outlet's turn until n lines have come, or all that are there
// where n is 0, and keeps the place behind each run.
func drain(t *testing.T, o *Outlet, n int) (lines []string, dropped uint64) {
	t.Helper()
	err := o.Hold(t.Context(), func(ctx context.Context) error {
		for run, err := range o.Runs(ctx) {
			if err != nil {
				return err
			}
			dropped += run.Dropped
			for _, line := range run.Lines {
				text := fmt.Sprintf("%d %s", line.Rank, line.Text)
				if line.Gap != "" {
					text = fmt.Sprintf("%d [%s]", line.Rank, line.Gap)
				}
				lines = append(lines, text)
			}
			if err := o.Keep(ctx, run.Place); err != nil {
				return err
			}
			if n > 0 && len(lines) >= n || n == 0 && run.Behind == 0 {
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, dropped
}

// TestOutletGoesOn: whoever goes on at the place that is kept has each line
// once, also those that began before it.
func TestOutletGoesOn(t *testing.T) {
	s := open(t, Options{})
	feed(t, s, "a", 0, epoch, "one\nbegin", false)
	feed(t, s, "a", 1, epoch, "x\n", false)
	feed(t, s, "a", 0, epoch, " end\ntwo\n", false)
	feed(t, s, "a", 1, epoch, "y\n", false)
	want := []string{"0 one", "1 x", "0 begin end", "0 two", "1 y"}
	var got []string
	for len(got) < len(want) {
		lines, dropped := drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 1)
		if got = append(got, lines...); dropped > 0 {
			t.Errorf("dropped %d", dropped)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lost := chunk(2, 0, 1)
	lost.Gap = "rotated"
	appendTo(t, s, lost)
	lines, _ := drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 0)
	if diff := cmp.Diff([]string{"2 [rotated]", "2 line 0"}, lines); diff != "" {
		t.Error(diff)
	}
}

// TestOutletTellsWhatWasDropped: chunks that made place before they were read.
func TestOutletTellsWhatWasDropped(t *testing.T) {
	s := open(t, Options{MaxChunks: 3})
	appendTo(t, s, chunk(0, 0, 1))
	drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 0)
	for n := range 6 {
		appendTo(t, s, chunk(0, n+1, n+2))
	}
	lines, dropped := drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 0)
	if diff := cmp.Diff([]string{"0 line 4", "0 line 5", "0 line 6"}, lines); diff != "" || dropped != 3 {
		t.Errorf("dropped %d, %s", dropped, diff)
	}
}

// TestOutletGoesBack where the store has lost its end, as by a power cut: what
// takes the place of what was sent is sent.
func TestOutletGoesBack(t *testing.T) {
	s := open(t, Options{})
	appendTo(t, s, chunk(0, 0, 1))
	o := outletOf(t, s, OutletOptions{Owner: "r", Alone: true})
	drain(t, o, 0)
	if err := o.Keep(t.Context(), Place{From: 8, To: 7}); err != nil {
		t.Fatal(err)
	}
	o = outletOf(t, s, OutletOptions{Owner: "r", Alone: true})
	appendTo(t, s, chunk(0, 1, 2))
	lines, _ := drain(t, o, 0)
	if diff := cmp.Diff([]string{"0 line 1"}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestOutletHidesClusters(t *testing.T) {
	analyzed := false
	s := open(t, Options{Analyzed: func(cluster string) bool { return analyzed && cluster == "c" }})
	appendTo(t, s, chunk(0, 0, 1))
	if lines, _ := drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 0); lines != nil {
		t.Errorf("%q", lines)
	}
	analyzed = true
	appendTo(t, s, chunk(0, 1, 2))
	if lines, _ := drain(t, outletOf(t, s, OutletOptions{Owner: "r", Alone: true}), 0); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// TestOutletTurns: of several relays one has the turn; who has lost it keeps no
// place any more, and who leaves hands it on.
func TestOutletTurns(t *testing.T) {
	s := open(t, Options{})
	appendTo(t, s, chunk(0, 0, 1))
	first, second := outletOf(t, s, OutletOptions{Owner: "first"}), outletOf(t, s, OutletOptions{Owner: "second"})
	err := first.Hold(t.Context(), func(ctx context.Context) error {
		waiting, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := second.Hold(waiting, func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two have the turn: %v", err)
		}
		// As after the lease has run out.
		third := outletOf(t, s, OutletOptions{Owner: "third", Alone: true})
		return third.Hold(ctx, func(ctx context.Context) error {
			if err := first.Keep(ctx, Place{From: 9, To: 8}); !errors.Is(err, errTurn) {
				t.Errorf("who has lost the turn kept a place: %v", err)
			}
			return third.Keep(ctx, Place{From: 2, To: 1})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Hold(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("a turn that was left is not free: %v", err)
	}
	if second.mark.To != 1 {
		t.Errorf("%+v", second.mark)
	}
}

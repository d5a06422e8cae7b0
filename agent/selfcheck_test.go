package agent

import (
	"errors"
	"net/url"
	"testing"
	"time"
)

// TestRounds: checks are done at once, now and then, and once in each failure
// of the link that lasts.
func TestRounds(t *testing.T) {
	var r rounds
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after      time.Duration
		fails, due bool
	}{
		{0, false, true},
		{5 * time.Second, true, false},
		{time.Minute, true, false},
		{65 * time.Second, true, true},
		{70 * time.Second, true, false}, // once
		{80 * time.Second, false, false},
		{90 * time.Second, true, false}, // another failure
		{140 * time.Second, false, false},
		{150 * time.Second, true, false},
		{210 * time.Second, true, true},
		{12 * time.Minute, true, false},
		{14 * time.Minute, true, true}, // it is time anyway
		{23 * time.Minute, false, false},
		{24 * time.Minute, false, true},
	} {
		if got := r.due(begin.Add(step.after), step.fails); got != step.due {
			t.Errorf("after %s: %v", step.after, got)
		}
	}
}

// TestCheckWithoutAnything: what main could not read is what the check says,
// whatever else is missing.
func TestCheckWithoutAnything(t *testing.T) {
	found := Check(t.Context(), DaemonOptions{Agent: Options{Relay: &url.URL{}}}, errors.New("open /etc/seed: no such file"))
	for i, r := range found.Results {
		if r.OK || r.Skipped != (i > 0) {
			t.Errorf("%+v", r)
		}
	}
}

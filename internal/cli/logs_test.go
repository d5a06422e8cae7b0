package cli

import (
	"testing"
	"time"
)

func TestMoments(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"1h":                          now.Add(-time.Hour),
		"7d":                          now.Add(-7 * 24 * time.Hour),
		"1h30m":                       now.Add(-90 * time.Minute),
		"15s":                         now.Add(-15 * time.Second),
		"2025-12-31T23:00:00Z":        time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC),
		"2025-12-31T23:00:00.5+01:00": time.Date(2025, 12, 31, 22, 0, 0, 5e8, time.UTC),
	} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || !m.from(now).Equal(want) {
			t.Errorf("%s: %v, %v", text, m.from(now), err)
		}
	}
	for _, text := range []string{"", "yesterday", "-1h", "0s", "2025-12-31", "1"} {
		if err := new(moment).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a moment", text)
		}
	}
	if at := (moment{}).from(now); !at.IsZero() {
		t.Errorf("no moment is %v", at)
	}
}

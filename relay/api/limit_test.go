package api

import (
	"fmt"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock                    { return &clock{time.Unix(1_800_000_000, 0)} }
func (c *clock) now() time.Time           { return c.at }
func (c *clock) pass(d time.Duration)     { c.at = c.at.Add(d) }
func (c *clock) limit(e, all pace) *limit { return newLimit(e, all, c.now) }

// taken is how often in a row the address may.
func taken(l *limit, remote string, tries int) (n int) {
	for range tries {
		if _, ok := l.take(remote); ok {
			n++
		}
	}
	return n
}

func TestLimit(t *testing.T) {
	c := newClock()
	l := c.limit(pace{1, 3}, pace{10, 5})
	if got := taken(l, "10.0.0.1:1", 10); got != 3 {
		t.Errorf("%d at once, want 3", got)
	}
	wait, ok := l.take("10.0.0.1:2")
	if ok || wait != time.Second {
		t.Errorf("from another port: %v, %v", wait, ok)
	}
	// What was refused took nothing of what is for all.
	if got := taken(l, "10.0.0.2:1", 10); got != 2 {
		t.Errorf("another address: %d, want the 2 that are left in all", got)
	}
	c.pass(wait)
	if got := taken(l, "10.0.0.1:3", 10); got != 1 {
		t.Errorf("%d after the time that was told, want 1", got)
	}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		one, other string
		same       bool
	}{
		{"10.0.0.1:1", "10.0.0.1:2", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"[::ffff:10.0.0.1]:1", "10.0.0.1:1", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
		{"", "nonsense", true},
		{"nonsense", "10.0.0.1:1", false},
	} {
		if got := network(tc.one) == network(tc.other); got != tc.same {
			t.Errorf("%s and %s: the same %v, want %v", tc.one, tc.other, got, tc.same)
		}
	}
}

// TestLimitIsBounded: many addresses take no more memory than some.
func TestLimitIsBounded(t *testing.T) {
	l := newClock().limit(pace{1, 1}, pace{1e9, 1e9})
	for i := range 2 * maxAddresses {
		l.take(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(l.known) != maxAddresses || l.recent.Len() != maxAddresses {
		t.Errorf("%d and %d addresses are remembered", len(l.known), l.recent.Len())
	}
	last := 2*maxAddresses - 1
	if _, ok := l.take(fmt.Sprintf("10.%d.%d.%d:2", last>>16, last>>8&255, last&255)); ok {
		t.Error("the newest address was forgotten")
	}
}

// TestSiteReconnects: a site of 1000 agents comes back through its one proxy,
// each refused agent trying again a second later, and keeps nobody else out.
func TestSiteReconnects(t *testing.T) {
	c := newClock()
	l := c.limit(upgradesEach, upgradesAll)
	waiting, others := 1000, 0
	for second := 0; waiting > 0; second++ {
		if second > 10 {
			t.Fatalf("%d agents still wait after %d s", waiting, second)
		}
		waiting -= taken(l, "192.0.2.1:1", waiting)
		if got := taken(l, fmt.Sprintf("198.51.100.%d:1", second), 50); got == 50 {
			others++
		} else {
			t.Errorf("second %d: another site got %d agents in, want 50", second, got)
		}
		c.pass(time.Second)
	}
	if others == 0 {
		t.Error("no other site came")
	}
}

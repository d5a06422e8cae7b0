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
func (c *clock) limit(e, all pace) *limit { return newLimit(e, all, newFriends(c.now), c.now) }

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
		if got := network(address(tc.one)) == network(address(tc.other)); got != tc.same {
			t.Errorf("%s and %s: the same %v, want %v", tc.one, tc.other, got, tc.same)
		}
	}
}

// TestLimitIsBounded: many addresses take no more memory than some.
func TestLimitIsBounded(t *testing.T) {
	l := newClock().limit(pace{1, 1}, pace{1e9, 1e9})
	for i := range 2 * maxKept {
		l.take(ipv4(10, i))
		l.friends.add(ipv4(11, i))
	}
	if len(l.each.known) != maxKept || l.each.recent.Len() != maxKept || len(l.friends.seen) != maxKept {
		t.Errorf("%d and %d addresses are remembered, and %d friends", len(l.each.known), l.each.recent.Len(), len(l.friends.seen))
	}
	if _, ok := l.take(ipv4(10, 2*maxKept-1)); ok {
		t.Error("the newest address was forgotten")
	}
}

func ipv4(first, i int) string { return fmt.Sprintf("%d.%d.%d.%d:1", first, i>>16, i>>8&255, i&255) }

// TestFewKeepNobodyOut: however hard a few try, also with all of their IPv6
// network, an honest site gets in.
func TestFewKeepNobodyOut(t *testing.T) {
	for _, kind := range []struct {
		name  string
		times int // of what one address may
		from  func(attacker, try int) string
	}{
		{"IPv4", 1, func(attacker, _ int) string { return ipv4(10, attacker) }},
		{"IPv6", 1, func(attacker, try int) string { return fmt.Sprintf("[2001:db8:%x::%x]:1", attacker, try) }},
		{"a site of IPv6", siteTimes, func(attacker, try int) string { return fmt.Sprintf("[2001:db8:%x:%x::1]:1", attacker, try) }},
	} {
		for what, of := range map[string][2]pace{"upgrades": {upgradesEach, upgradesAll}, "enrols": {enrolsEach, enrolsAll}} {
			for _, attackers := range []int{2, 16} {
				t.Run(fmt.Sprintf("%s/%s/%d", what, kind.name, attackers), func(t *testing.T) {
					c, each := newClock(), of[0]
					l := c.limit(each, of[1])
					for second := range 10 {
						for attacker := range attackers {
							got := 0
							for try := range 2 * kind.times * each.burst {
								if _, ok := l.take(kind.from(attacker, try)); ok {
									got++
								}
							}
							if most := kind.times * each.burst; got > most {
								t.Fatalf("an attacker got in %d times at once, want %d at most", got, most)
							}
						}
						if got := taken(l, fmt.Sprintf("192.0.2.%d:1", second), 50); got != 50 {
							t.Fatalf("second %d: an honest site got %d agents in, want 50", second, got)
						}
						c.pass(time.Second)
					}
				})
			}
		}
	}
}

// TestFriends: where agents proved lately who they are, not even a crowd keeps
// them out; they have no more than their own pace.
func TestFriends(t *testing.T) {
	c := newClock()
	l := c.limit(pace{1, 3}, pace{1, 3}.times(crowd))
	const friend, stranger = "[2001:db8:1:1::1]:1", "[2001:db8:2:2::1]:1"
	l.friends.add("[2001:db8:1:1::2]:7")
	flood := func() {
		for i := range 2 * crowd {
			taken(l, ipv4(10, i), 5)
		}
		for i := range 100 { // the friend's neighbours
			l.take(fmt.Sprintf("[2001:db8:1:%x::1]:1", i+2))
		}
	}
	flood()
	if got := taken(l, stranger, 5); got != 0 {
		t.Errorf("a stranger: %d, want none", got)
	}
	if got := taken(l, friend, 5); got != 3 {
		t.Errorf("a friend: %d, want the 3 of an address", got)
	}
	c.pass(friendly + time.Second)
	flood()
	if got := taken(l, friend, 5); got != 0 {
		t.Errorf("long ago a friend: %d, want none", got)
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

package api

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// crowd is how many addresses must go at their full pace until strangers meet
// the limit in all. It is far above what a few of them reach: they shall not be
// able to keep others out.
const crowd = 64

// The paces of what strangers may do, per address and in all. A whole site,
// with all its agents and users, comes from the one address of its proxy, so an
// address gets much. Whoever has a valid token does not come here: tokens of
// 256 random bits cannot be guessed at any pace, so what is bounded is the work
// and the writing that refusals make.
var (
	// An agent that is refused tries again, later and later. Of a site of 1000
	// agents, 300 are let in at once and the rest within 7 seconds.
	upgradesEach = pace{100, 300}
	upgradesAll  = upgradesEach.times(crowd)
	// A cluster joins once, and an answer that got lost is asked for again:
	// 50 clusters may be installed at once from behind one proxy. Each try with
	// a join token of ours is an entry in the audit log.
	enrolsEach = pace{0.2, 50}
	enrolsAll  = enrolsEach.times(crowd)
	// A wrong token in a script that goes round.
	failuresEach = pace{2, 30}
	failuresAll  = failuresEach.times(crowd)
	// Refused logins that are written into the audit log: a flood of them fills
	// no more than 9000 entries a day, some megabytes. Who fills this keeps
	// nobody out. A token that lacks a role has as much as an address.
	refusalsEach, refusalsAll = pace{1. / 60, 5}, pace{0.1, 60}
)

// changesEach is how many changes a token, or who joins as a cluster, may try: a sweep of thousands of jobs
// at once, and more in a day than anybody looks at. One that repeats what fails
// without end would take days to fill the audit log, and push out what others
// did.
var changesEach = pace{5, 20_000}

// Of IPv6, an address is a network of 64 bits, of whose addresses everybody has
// very many; and many have as many such networks, a whole site of 48 bits, which
// gets no more than two addresses.
const (
	networkBits = 64
	siteBits    = 48
	siteTimes   = 2
)

// limit bounds how often something happens, by address.
type limit struct {
	now     func() time.Time
	friends *friends

	mu    sync.Mutex
	all   *rate.Limiter
	each  *paces[netip.Prefix]
	sites *paces[netip.Prefix] // of IPv6
}

// newLimit makes a limit. Where friends is not nil, they do not share the limit
// in all: each has its own pace, whatever others do.
func newLimit(each, all pace, friends *friends, now func() time.Time) *limit {
	return &limit{
		now: now, friends: friends, all: all.limiter(),
		each: newPaces[netip.Prefix](each), sites: newPaces[netip.Prefix](each.times(siteTimes)),
	}
}

// take reports whether it may happen once more now, or after how long.
func (l *limit) take(remote string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, addr := l.now(), address(remote)
	// Who is over his own limit takes nothing of what is for all.
	limiters := []*rate.Limiter{l.each.of(network(addr))}
	if !l.friends.has(remote) {
		if addr.Is6() {
			limiters = append(limiters, l.sites.of(prefix(addr, siteBits)))
		}
		limiters = append(limiters, l.all)
	}
	return takeOf(now, limiters...)
}

// address is the IP address of the remote; the zero one where it is none.
func address(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// network is what counts as one address. What is no address is all the same one.
func network(addr netip.Addr) netip.Prefix {
	if addr.Is6() {
		return prefix(addr, networkBits)
	}
	return prefix(addr, addr.BitLen())
}

func prefix(addr netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(addr, bits).Masked() }

// friendly is how long an address is a friend's after an agent has proved there
// who it is. A leading agent does that at least every ten minutes, and a minute
// after its connection failed.
const friendly = time.Hour

// friends are the addresses where agents proved lately who they are.
type friends struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[netip.Prefix]time.Time
}

func newFriends(now func() time.Time) *friends {
	return &friends{now: now, seen: map[netip.Prefix]time.Time{}}
}

// add notes that an agent proved who it is. Strangers cannot fill the map; where
// agents have, nobody is added until some are old.
func (f *friends) add(remote string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, key := f.now(), network(address(remote))
	if _, known := f.seen[key]; !known && len(f.seen) >= maxKept {
		for other, at := range f.seen {
			if now.Sub(at) > friendly {
				delete(f.seen, other)
			}
		}
		if len(f.seen) >= maxKept {
			return
		}
	}
	f.seen[key] = now
}

func (f *friends) has(remote string) bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.seen[network(address(remote))]
	return ok && f.now().Sub(at) <= friendly
}

// slow refuses what comes too often.
func slow(w http.ResponseWriter, status int, wait time.Duration, detail string) {
	w.Header().Set("Retry-After", seconds(wait))
	problem(w, status, detail+": try again in "+seconds(wait)+" s")
}

func seconds(wait time.Duration) string { return strconv.Itoa(int(math.Ceil(wait.Seconds()))) }

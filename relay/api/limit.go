package api

import (
	"container/list"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pace is how often something may happen: at once, and then again each second.
type pace struct {
	second float64
	burst  int
}

// The paces of what strangers may do, per address and in all. A whole site,
// with all its agents and users, comes from the one address of its proxy, so an
// address gets much; the pace in all is what the relay bears. Whoever has a
// valid token is never slowed: tokens of 256 random bits cannot be guessed at
// any pace, so what is bounded is the work and the writing that refusals make.
var (
	// An agent that is refused tries again, later and later. Of a site of 1000
	// agents, 300 are let in at once and the rest within 7 seconds, by when
	// other sites have had as many.
	upgradesEach, upgradesAll = pace{100, 300}, pace{200, 400}
	// A cluster joins once, and an answer that got lost is asked for again:
	// 50 clusters may be installed at once from behind one proxy. Each try with
	// a join token of ours is an entry in the audit log.
	enrolsEach, enrolsAll = pace{0.2, 50}, pace{2, 200}
	// A wrong token in a script that goes round.
	failuresEach, failuresAll = pace{2, 30}, pace{50, 300}
	// Refused logins that are written into the audit log: a flood of them fills
	// no more than 9000 entries a day, some megabytes.
	refusalsEach, refusalsAll = pace{1. / 60, 5}, pace{0.1, 60}
)

// maxAddresses bounds the addresses that a limit remembers. Who forces one out
// by coming from as many others still meets the limit in all.
const maxAddresses = 16_384

// limit bounds how often something happens.
type limit struct {
	each pace
	now  func() time.Time

	mu    sync.Mutex
	all   *rate.Limiter
	known map[netip.Prefix]*list.Element // of recent
	// recent are the addresses, the one seen last in front.
	recent list.List
}

type address struct {
	prefix netip.Prefix
	pace   *rate.Limiter
}

func newLimit(each, all pace, now func() time.Time) *limit {
	return &limit{each: each, now: now, all: all.limiter(), known: map[netip.Prefix]*list.Element{}}
}

func (p pace) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(p.second), p.burst) }

// take reports whether it may happen once more now, or after how long.
func (l *limit) take(remote string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	// Who is over his own limit takes nothing of what is for all.
	one := l.of(remote).ReserveN(now, 1)
	if wait = one.DelayFrom(now); wait > 0 {
		one.CancelAt(now)
		return wait, false
	}
	all := l.all.ReserveN(now, 1)
	if wait = all.DelayFrom(now); wait > 0 {
		all.CancelAt(now)
		one.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// of is the pace of an address.
func (l *limit) of(remote string) *rate.Limiter {
	prefix := network(remote)
	if e, ok := l.known[prefix]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(address).pace
	}
	if l.recent.Len() >= maxAddresses {
		oldest := l.recent.Back()
		delete(l.known, l.recent.Remove(oldest).(address).prefix)
	}
	a := address{prefix, l.each.limiter()}
	l.known[prefix] = l.recent.PushFront(a)
	return a.pace
}

// network is what counts as one address: of IPv6 the network, of whose
// addresses everybody has very many. What is no address is all the same one.
func network(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := addr.Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// slow refuses what comes too often.
func slow(w http.ResponseWriter, status int, wait time.Duration, detail string) {
	w.Header().Set("Retry-After", seconds(wait))
	problem(w, status, detail+": try again in "+seconds(wait)+" s")
}

func seconds(wait time.Duration) string { return strconv.Itoa(int(math.Ceil(wait.Seconds()))) }

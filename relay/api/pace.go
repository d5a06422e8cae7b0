package api

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pace is how often something may happen: at once, and then again each second.
type pace struct {
	second float64
	burst  int
}

func (p pace) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(p.second), p.burst) }

// times is the pace of n who keep this one.
func (p pace) times(n int) pace { return pace{p.second * float64(n), p.burst * n} }

// maxKept bounds what paces remember.
const maxKept = 16_384

// paces are those of many. They remember those seen last: who was forgotten
// begins anew.
type paces[K comparable] struct {
	each   pace
	known  map[K]*list.Element // of recent
	recent list.List           // of kept, the one seen last in front
}

type kept[K comparable] struct {
	key  K
	pace *rate.Limiter
}

func newPaces[K comparable](each pace) *paces[K] {
	return &paces[K]{each: each, known: map[K]*list.Element{}}
}

// of is the pace of the key.
func (p *paces[K]) of(key K) *rate.Limiter {
	if e, ok := p.known[key]; ok {
		p.recent.MoveToFront(e)
		return e.Value.(kept[K]).pace
	}
	if p.recent.Len() >= maxKept {
		delete(p.known, p.recent.Remove(p.recent.Back()).(kept[K]).key)
	}
	k := kept[K]{key, p.each.limiter()}
	p.known[key] = p.recent.PushFront(k)
	return k.pace
}

// takeOf takes one of each, or nothing of any where one has none left: then it
// says after how long it has.
func takeOf(now time.Time, limiters ...*rate.Limiter) (wait time.Duration, ok bool) {
	var taken []*rate.Reservation
	for _, l := range limiters {
		r := l.ReserveN(now, 1)
		taken = append(taken, r)
		if wait = r.DelayFrom(now); wait == 0 {
			continue
		}
		for _, r := range taken {
			r.CancelAt(now)
		}
		return wait, false
	}
	return 0, true
}

// users bounds what those who are known do, by name: of their token, or of the
// cluster whose agent joins.
type users struct {
	now func() time.Time

	mu   sync.Mutex
	each *paces[string]
}

func newUsers(each pace, now func() time.Time) *users {
	return &users{now: now, each: newPaces[string](each)}
}

// take reports whether it may happen once more now, or after how long.
func (u *users) take(name string) (wait time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return takeOf(u.now(), u.each.of(name))
}

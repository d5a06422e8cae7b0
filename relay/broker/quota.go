package broker

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quota is what each cluster may ask: so much at the same time, and so much in
// a second, where a large request counts as several. There are as many as
// clusters that ever connected.
type quota struct {
	mu       sync.Mutex
	atOnce   int
	perSec   int
	clusters map[string]*use
}

type use struct {
	taken   int
	pace    *rate.Limiter
	excess  *rate.Limiter // of what comes above the quota
	dropped int           // of its lane, so far
	letters *rate.Limiter // of dead letters that are kept and logged
	cooling time.Time     // until when the cluster is refused altogether
}

// coolDown is how long a cluster that flooded the relay is not let in.
const coolDown = time.Minute

// What a request counts once more for, in bytes: within the quota, and above it.
const (
	largeRequest = 32 << 10
	largeExcess  = 8 << 10
)

// minExcess is what a cluster may at least ask above its quota in a second: more
// than one can that waits for each answer, and more than all pods of an agent
// that come at once after a network was away.
const minExcess = 20000

func newQuota(atOnce, perSec int) *quota {
	return &quota{atOnce: atOnce, perSec: perSec, clusters: map[string]*use{}}
}

// take counts a request of so many bytes in, until give; the error says which
// bound was reached.
func (q *quota) take(cluster string, bytes int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.use(cluster)
	if u.taken >= q.atOnce {
		return fmt.Errorf("cluster %s has %d requests under way, which is the most at the same time: ask again in a moment", cluster, u.taken)
	}
	if !u.pace.AllowN(time.Now(), 1+bytes/largeRequest) {
		return fmt.Errorf("cluster %s asks more than %d times in a second: ask again in a moment", cluster, q.perSec)
	}
	u.taken++
	return nil
}

func (q *quota) give(cluster string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clusters[cluster].taken--
}

// over counts a request above the quota, and those that were dropped so far
// since the relay could not even look at them, and reports whether it is a flood.
func (q *quota) over(cluster string, bytes, dropped int) (flood bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.use(cluster)
	unseen := max(0, dropped-u.dropped)
	u.dropped = dropped
	return !u.excess.AllowN(time.Now(), 1+bytes/largeExcess+unseen)
}

// cool refuses the cluster for a while; false where it is refused already.
func (q *quota) cool(cluster string) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u, now := q.use(cluster), time.Now()
	if now.Before(u.cooling) {
		return false
	}
	u.cooling = now.Add(coolDown)
	return true
}

// coolingDown reports whether the cluster is refused for now.
func (q *quota) coolingDown(cluster string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.clusters[cluster]
	return u != nil && time.Now().Before(u.cooling)
}

// letter reports whether one more dead letter of the cluster is to be kept.
func (q *quota) letter(cluster string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.use(cluster).letters.Allow()
}

func (q *quota) use(cluster string) *use {
	u := q.clusters[cluster]
	if u == nil {
		excess := max(minExcess, 10*q.perSec)
		u = &use{
			pace:    rate.NewLimiter(rate.Limit(q.perSec), max(q.perSec, 2*maxAgentPayload/largeRequest)),
			letters: rate.NewLimiter(rate.Every(6*time.Second), lettersPerSubject),
			excess:  rate.NewLimiter(rate.Limit(excess), excess),
		}
		q.clusters[cluster] = u
	}
	return u
}

package broker

import (
	"fmt"
	"sync"

	"golang.org/x/time/rate"
)

// quota is what each cluster may ask: so much at the same time, and so much in
// a second. There are as many as clusters that ever connected.
type quota struct {
	mu       sync.Mutex
	atOnce   int
	perSec   int
	clusters map[string]*use
}

type use struct {
	taken int
	pace  *rate.Limiter
}

func newQuota(atOnce, perSec int) *quota {
	return &quota{atOnce: atOnce, perSec: perSec, clusters: map[string]*use{}}
}

// take counts a request in, until give; the error says which bound was reached.
func (q *quota) take(cluster string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.clusters[cluster]
	if u == nil {
		u = &use{pace: rate.NewLimiter(rate.Limit(q.perSec), q.perSec)}
		q.clusters[cluster] = u
	}
	if u.taken >= q.atOnce {
		return fmt.Errorf("cluster %s has %d requests under way, which is the most at the same time: ask again in a moment", cluster, u.taken)
	}
	if !u.pace.Allow() {
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

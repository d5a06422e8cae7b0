package clusters

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// nudgePause gathers nudges: a thousand jobs for a cluster are a few nudges.
const nudgePause = 20 * time.Millisecond

// Nudger asks agents to sync now. What gets lost is made up for by the sync
// that comes anyway.
type Nudger struct {
	publish func(cluster string) error
	log     zerolog.Logger
	wake    chan struct{}

	mu      sync.Mutex
	waiting map[string]struct{}
}

// NewNudger makes a nudger that sends with publish, while Run runs.
func NewNudger(publish func(cluster string) error, log zerolog.Logger) *Nudger {
	return &Nudger{publish: publish, log: log, wake: make(chan struct{}, 1), waiting: map[string]struct{}{}}
}

// Nudge asks the agent of the cluster to sync soon. It does not block.
func (n *Nudger) Nudge(cluster string) {
	n.mu.Lock()
	n.waiting[cluster] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run sends nudges until ctx is done.
func (n *Nudger) Run(ctx context.Context) {
	pause := time.NewTicker(nudgePause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for _, cluster := range n.take() {
			if err := n.publish(cluster); err != nil {
				n.log.Debug().Err(err).Str("cluster", cluster).Msg("cannot nudge")
			}
		}
		pause.Reset(nudgePause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

func (n *Nudger) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	clusters := slices.Sorted(maps.Keys(n.waiting))
	clear(n.waiting)
	return clusters
}

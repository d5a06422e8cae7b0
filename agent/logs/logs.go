package logs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// Pod is a training pod whose output may be shipped.
type Pod struct {
	Namespace string
	Name      string
	UID       types.UID
	Node      string
	Ref       protocol.Ref
	Rank      int
	// ContainerStarted is when the container "main" started; zero before.
	ContainerStarted time.Time
	// Ended: the container has ended.
	Ended bool
	// Disrupted: another pod may take over the rank (the condition
	// DisruptionTarget), so this one's end is not the end of the output.
	Disrupted bool
}

// Options are what Logs is made of. All but Registerer are required.
type Options struct {
	Pods corev1.PodsGetter
	// Send sends a chunk to the relay and returns its answer. The error is a
	// *protocol.Refusal where the relay refused it.
	Send       func(context.Context, *protocol.LogChunk) (*protocol.LogReply, error)
	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Logs follows a set of pods.
type Logs struct {
	opts    Options
	metrics *metrics
	changed chan struct{}

	mu   sync.Mutex
	pods map[types.UID]Pod
}

// New checks the options and makes Logs, which follow nothing before Run.
func New(o Options) (*Logs, error) {
	var errs []error
	if o.Pods == nil {
		errs = append(errs, errors.New("no client of pods"))
	}
	if o.Send == nil {
		errs = append(errs, errors.New("no way to send"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("logs: options: %w", err)
	}
	return &Logs{opts: o, metrics: newMetrics(o.Registerer), changed: make(chan struct{}, 1)}, nil
}

// Sync sets the pods to follow, all of them. A pod that is not among them any
// more, deleted or left to another agent, is followed to the end of what is
// being read, for a few seconds at most. It never blocks.
func (l *Logs) Sync(pods []Pod) {
	set := make(map[types.UID]Pod, len(pods))
	for _, p := range pods {
		set[p.UID] = p
	}
	l.mu.Lock()
	l.pods = set
	l.mu.Unlock()
	l.poke()
}

func (l *Logs) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Run follows the pods until ctx is done, and returns when every follower has
// stopped.
func (l *Logs) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followers := make(map[types.UID]*follower)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
		}
		l.mu.Lock()
		pods := l.pods
		l.mu.Unlock()
		for uid, f := range followers {
			pod, wanted := pods[uid]
			switch {
			case wanted && !f.released():
				f.update(pod)
			case f.finished():
				delete(followers, uid)
			default:
				f.release()
			}
		}
		for uid, pod := range pods {
			if followers[uid] == nil && !pod.ContainerStarted.IsZero() {
				f := newFollower(l, pod)
				followers[uid] = f
				wg.Go(func() {
					defer l.poke()
					f.follow(ctx)
				})
			}
		}
	}
}

// Assign picks the pods that the agent on node self follows: those of its own
// node and, while it leads, those of nodes without a ready agent.
func Assign(pods []Pod, nodesWithAgents map[string]bool, self string, leading bool) []Pod {
	var mine []Pod
	for _, p := range pods {
		if p.Node == self || leading && p.Node != "" && !nodesWithAgents[p.Node] {
			mine = append(mine, p)
		}
	}
	return mine
}

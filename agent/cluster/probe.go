package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

const (
	probeEvery   = 5 * time.Second
	probeTimeout = 5 * time.Second
)

// probe keeps asking whether the API server answers: a watch that is broken, or
// silent, does not say.
type probe struct {
	client    kubernetes.Interface
	recovered func()
	due       chan struct{}

	mu  sync.Mutex
	err error
}

func newProbe(client kubernetes.Interface, recovered func()) *probe {
	return &probe{client: client, recovered: recovered, due: make(chan struct{}, 1), err: errors.New("not asked yet")}
}

// soon asks for a look before the next is due.
func (p *probe) soon() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

func (p *probe) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.due:
		}
		_ = p.ask(ctx) // problem has it
		timer.Reset(probeEvery)
	}
}

// ask asks now, and returns what is wrong.
func (p *probe) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := p.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	p.mu.Lock()
	back := err == nil && p.err != nil
	p.err = err
	p.mu.Unlock()
	if back {
		p.recovered()
	}
	return err
}

// problem is what the API server's last answer lacked; nil for nothing.
func (p *probe) problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

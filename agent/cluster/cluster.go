package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/protocol"
)

// Defaults of Options.
const (
	DefaultMaxUnscheduled = 16
	DefaultMaxLive        = 500
	DefaultLostAfter      = 5 * time.Minute
)

// Policy is what the cluster's admin lets Jobs be. It may change at any time.
type Policy interface {
	// Usable says why there is no policy, so that nothing may be created; nil
	// where there is one.
	Usable() error
	// Judge says why the Job must not be created, or why nobody can tell.
	Judge(job *batchv1.Job) (refusal, err error)
}

// Options are what a Cluster is made of. Zero values of the last block mean
// the defaults.
type Options struct {
	Client     kubernetes.Interface
	Namespaces []string // where Jobs may be; all others are refused
	Workload   workload.Options
	Policy     Policy
	// Token is the secret with which an attempt's pods ask the gateway.
	Token func(protocol.Ref) string
	// Mark is how the agent knows a Job of an attempt in a namespace as its own.
	Mark func(ref protocol.Ref, namespace string) string
	// Open opens a sealed value.
	Open func(seal.Purpose, *protocol.Sealed) ([]byte, error)
	// InstanceTypes are those that the cluster itself has, which every compute
	// has beside its own; nil for none.
	InstanceTypes func() map[string]protocol.InstanceType
	// Observe takes what became of an attempt, Version zero. It must not block.
	Observe func(protocol.Event)
	// Changed is called when a sync with the relay is worth while: room came
	// free, or the API server is back. It must not block.
	Changed func()
	Log     zerolog.Logger

	MaxUnscheduled int           // Jobs of a compute with pods that have no node yet
	MaxLive        int           // unfinished Jobs of a compute
	LostAfter      time.Duration // how long a pod may outlast its deletion before its node counts as lost
}

func (o *Options) validate() error {
	var errs []error
	missing := func(what string, is bool) {
		if is {
			errs = append(errs, errors.New("no "+what))
		}
	}
	missing("client", o.Client == nil)
	missing("namespaces", len(o.Namespaces) == 0)
	missing("policy", o.Policy == nil)
	missing("token", o.Token == nil)
	missing("mark of Jobs", o.Mark == nil)
	missing("opener of sealed values", o.Open == nil)
	missing("observer", o.Observe == nil)
	missing("listener to changes", o.Changed == nil)
	errs = append(errs, o.Workload.Validate())
	for _, ns := range o.Namespaces {
		errs = append(errs, protocol.CheckLabel("namespace", ns))
	}
	return errors.Join(errs...)
}

// Cluster is the attempts in a Kubernetes cluster. Its methods may be called
// at any time from any goroutine, and wait for nothing; outside of Run they
// know of no attempts and take no work.
type Cluster struct {
	o Options

	mu  sync.Mutex
	run *session // nil outside of Run
}

// New checks the options and makes a Cluster, which does nothing before Run.
func New(o Options) (*Cluster, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("cluster: options: %w", err)
	}
	o.Namespaces = slices.Compact(slices.Sorted(slices.Values(o.Namespaces)))
	if o.InstanceTypes == nil {
		o.InstanceTypes = func() map[string]protocol.InstanceType { return nil }
	}
	o.MaxUnscheduled = cmp.Or(o.MaxUnscheduled, DefaultMaxUnscheduled)
	o.MaxLive = cmp.Or(o.MaxLive, DefaultMaxLive)
	o.LostAfter = cmp.Or(o.LostAfter, DefaultLostAfter)
	return &Cluster{o: o}, nil
}

// Run watches the cluster and works until ctx is done, and returns once all of
// that has stopped. It may be called again, but not twice at a time.
func (c *Cluster) Run(ctx context.Context) error {
	s := newSession(&c.o)
	c.setSession(s)
	defer c.setSession(nil)
	return s.work(ctx)
}

func (c *Cluster) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = s
}

func (c *Cluster) session() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

// Synced is nil while the caches are in step with the API server, else it says
// what is waited for.
func (c *Cluster) Synced() error {
	if s := c.session(); s != nil {
		return s.synced()
	}
	return errors.New("this process does not lead")
}

// Refusing says why no attempt would be created, though the cluster is there;
// nil where attempts would.
func (c *Cluster) Refusing() error { return c.o.Policy.Usable() }

// Held are the attempts with a Job, or with one being created: the unfinished
// ones, or all of them.
func (c *Cluster) Held(full bool) []protocol.Ref {
	if s := c.session(); s != nil {
		return s.held(full)
	}
	return nil
}

// Room is how many more attempts each of the computes can take.
func (c *Cluster) Room(computes []protocol.Compute) []protocol.Room {
	if s := c.session(); s != nil {
		return s.room(computes)
	}
	return nil
}

// Start creates the attempt's Job, not after deadline, or adopts the one it
// has.
func (c *Cluster) Start(ctx context.Context, start protocol.Start, compute protocol.Compute, deadline time.Time) {
	c.wish(ctx, start.Ref(), func(a *attempt) { a.start = &grant{start: start, compute: compute, deadline: deadline} })
}

// Cancel ends an attempt, whether or not it has a Job. Its compute has no
// namespace where nobody knows it.
func (c *Cluster) Cancel(ctx context.Context, cancel protocol.Cancel, compute protocol.Compute) {
	c.wish(ctx, cancel.Ref, func(a *attempt) { a.cancel, a.namespace = &cancel, compute.Namespace })
}

// Resolve looks for the Job of an attempt that the relay misses, and ends the
// attempt where there is none. Its compute is as for Cancel.
func (c *Cluster) Resolve(ctx context.Context, missing protocol.Missing, compute protocol.Compute) {
	c.wish(ctx, missing.Ref, func(a *attempt) { a.missing, a.namespace = &missing, compute.Namespace })
}

// Folded says that the attempt's end is durable at the relay: from now on its
// finished Job may go.
func (c *Cluster) Folded(ref protocol.Ref) {
	if s := c.session(); s != nil && s.known(ref) {
		s.change(ref, func(a *attempt) { a.folded = true })
	}
}

// Resend observes everything again, ends included.
func (c *Cluster) Resend() {
	if s := c.session(); s != nil {
		s.resend()
	}
}

func (c *Cluster) wish(ctx context.Context, ref protocol.Ref, change func(*attempt)) {
	if s := c.session(); s != nil && ctx.Err() == nil {
		s.change(ref, change)
	}
}

// Package inventory looks at what the cluster has and whether the relay's
// computes can work there: the namespace, the agent's rights in it, and of each
// instance type the nodes that it may run on, how many instances they would
// take if they were empty, and how many they take now.
//
// It only looks. It watches nodes, and pods where it may, since what is free on
// a node is known by what runs there; without that right what is free is unknown
// and everything else is told. What it found is the newest [protocol.Found],
// which the link takes to the relay; it changes at once with a compute's state,
// and now and then with what is free.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/trainrelay/trainrelay/protocol"
)

// Options are what an Inventory is made of.
type Options struct {
	Client kubernetes.Interface
	// Place says what keeps jobs out of a namespace; nil for nothing.
	Place func(ctx context.Context, namespace string) error
	// Resources are what an instance gets; the error says what is wrong with it.
	Resources func(*protocol.InstanceType) (corev1.ResourceRequirements, error)
	// Tolerations are those of a compute's pods.
	Tolerations func(*protocol.Compute) []corev1.Toleration
	// Extension looks for the extension; it may be missing.
	Extension func(context.Context, *protocol.Extension) *protocol.ExtensionFound
	// Way is how the relay is reached, and how long the last sync took.
	Way func() (proxy string, roundTrip time.Duration)
	// Changed is called when there is something new to tell. It must not block.
	Changed func()
	// TellEvery is how often what is free is told where nothing else changes, at
	// most; 0 for 30 s.
	TellEvery time.Duration
	Log       zerolog.Logger
}

func (o *Options) validate() error {
	var errs []error
	for what, missing := range map[string]bool{
		"client": o.Client == nil, "look at namespaces": o.Place == nil, "resources": o.Resources == nil, "tolerations": o.Tolerations == nil,
		"way to the relay": o.Way == nil, "listener to changes": o.Changed == nil,
	} {
		if missing {
			errs = append(errs, errors.New("no "+what))
		}
	}
	return errors.Join(errs...)
}

// Inventory is what the cluster has. Its methods may be called at any time from
// any goroutine.
type Inventory struct {
	o     Options
	found atomic.Pointer[protocol.Found]
	types atomic.Pointer[map[string]protocol.InstanceType]
	wake  chan struct{}

	mu        sync.Mutex
	computes  []protocol.Compute
	extension *protocol.Extension
}

// New checks the options and makes an Inventory, which looks at nothing before
// Run.
func New(o Options) (*Inventory, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.TellEvery = cmp.Or(o.TellEvery, tellEvery)
	if o.Extension == nil {
		o.Extension = func(context.Context, *protocol.Extension) *protocol.ExtensionFound { return nil }
	}
	return &Inventory{o: o, wake: make(chan struct{}, 1)}, nil
}

// Want says what the relay wants in the cluster.
func (i *Inventory) Want(computes []protocol.Compute, extension *protocol.Extension) {
	i.mu.Lock()
	news := !reflect.DeepEqual(i.computes, computes) || !reflect.DeepEqual(i.extension, extension)
	i.computes, i.extension = computes, extension
	i.mu.Unlock()
	if news {
		i.look()
	}
}

func (i *Inventory) wanted() ([]protocol.Compute, *protocol.Extension) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.computes, i.extension
}

// Found is what was found last; nil before the first look.
func (i *Inventory) Found() *protocol.Found { return i.found.Load() }

// InstanceTypes are the cluster's own, as last read.
func (i *Inventory) InstanceTypes() map[string]protocol.InstanceType {
	if types := i.types.Load(); types != nil {
		return *types
	}
	return nil
}

func (i *Inventory) look() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

const (
	// lookEvery is how often it looks when nothing makes it sooner.
	lookEvery = 5 * time.Second
	// tellEvery is the default of Options.TellEvery.
	tellEvery = 30 * time.Second
	// lookGap is the least time between two looks.
	lookGap = 200 * time.Millisecond
	// patience is how long the first look waits for the watches.
	patience = 5 * time.Second
)

// Run looks until ctx is done.
func (i *Inventory) Run(ctx context.Context) error {
	all := informers.NewSharedInformerFactory(i.o.Client, 0)
	running := informers.NewSharedInformerFactoryWithOptions(i.o.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "status.phase!=Succeeded,status.phase!=Failed"
	}))
	v := &view{nodes: all.Core().V1().Nodes().Informer(), pods: running.Core().V1().Pods().Informer()}
	if err := v.watch(i.look); err != nil {
		return err
	}
	all.StartWithContext(ctx)
	running.StartWithContext(ctx)
	defer all.Shutdown()
	defer running.Shutdown()

	settled, cancel := context.WithTimeout(ctx, patience)
	cache.WaitForCacheSync(settled.Done(), v.nodes.HasSynced, v.pods.HasSynced)
	cancel()

	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		i.find(ctx, v)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-i.wake:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(lookGap): // a burst of changes is one look
			}
		}
	}
}

// find looks once, and keeps what is worth telling.
func (i *Inventory) find(ctx context.Context, v *view) {
	types, err := ownTypes(ctx, i.o.Client)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		i.o.Log.Warn().Err(err).Msg("cannot read the cluster's own instance types")
		types = i.InstanceTypes()
	}
	i.types.Store(&types)
	computes, extension := i.wanted()
	nodes := v.state()
	now := &protocol.Found{Time: time.Now().UTC(), Inventory: nodes.inventory()}
	now.Inventory.InstanceTypes = types
	now.Inventory.Proxy, now.Inventory.RoundTrip = i.o.Way()
	for _, c := range computes {
		now.Computes = append(now.Computes, i.judge(ctx, c, types, nodes))
	}
	if extension != nil {
		now.Extension = i.o.Extension(ctx, extension)
	}
	if ctx.Err() != nil {
		return
	}
	shorten(now)
	if before := i.found.Load(); before == nil || i.worthTelling(before, now) {
		i.found.Store(now)
		i.o.Changed()
	}
}

// worthTelling: a change of what is free alone waits for its turn.
func (i *Inventory) worthTelling(before, now *protocol.Found) bool {
	if reflect.DeepEqual(lasting(before), lasting(now)) {
		same := reflect.DeepEqual(before.Inventory.Free, now.Inventory.Free)
		return !same && now.Time.Sub(before.Time) >= i.o.TellEvery
	}
	return true
}

// lasting is what was found without what changes with each pod.
func lasting(f *protocol.Found) protocol.Found {
	l := *f
	l.Time, l.Inventory.Free, l.Inventory.RoundTrip = time.Time{}, nil, 0
	l.Computes = make([]protocol.ComputeFound, len(f.Computes))
	for n, c := range f.Computes {
		types := make([]protocol.TypeFound, len(c.Types))
		for t, kind := range c.Types {
			kind.Fits = nil
			types[t] = kind
		}
		c.Types = types
		l.Computes[n] = c
	}
	return l
}

package agent

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/trainrelay/trainrelay/agent/logs"
	"github.com/trainrelay/trainrelay/agent/workload"
)

// AgentSelector selects the pods of the agent in its namespace.
const AgentSelector = "app.kubernetes.io/name=trainrelay-agent"

// changeGap is the least time between two looks at pods that change.
const changeGap = 100 * time.Millisecond

// nodes knows the agent's pods and the training pods, as far as this process
// watches them: of its own node always, of all nodes while it leads.
type nodes struct {
	client kubernetes.Interface
	o      Options

	mu      sync.Mutex
	own     []podSource
	all     []podSource // nil while this process does not lead
	agents  podSource   // nil likewise
	version string      // of the API server; empty until known
}

// podSource is a watched set of pods.
type podSource interface{ List() []any }

func newNodes(client kubernetes.Interface, o Options) *nodes { return &nodes{client: client, o: o} }

// watchPods has the output of the node's training pods shipped.
func (a *Agent) watchPods(ctx context.Context) error {
	w := newWatch(ctx, a.client)
	own, err := w.training(a.o.Namespaces, fields.OneTermEqualSelector("spec.nodeName", a.o.NodeName))
	if err != nil {
		return err
	}
	a.nodes.set(func(n *nodes) { n.own = own })
	w.run(a.assign)
	return nil
}

// watchAll has the output of pods on nodes without an agent shipped, too.
func (a *Agent) watchAll(ctx context.Context) error {
	w := newWatch(ctx, a.client)
	agents, err := w.pods(a.o.PodNamespace, AgentSelector, fields.Everything())
	if err != nil {
		return err
	}
	all, err := w.training(a.o.Namespaces, fields.Everything())
	if err != nil {
		return err
	}
	version := serverVersion(ctx, a.client.Discovery())
	a.nodes.set(func(n *nodes) { n.all, n.agents, n.version = all, agents, version })
	w.run(a.assign)
	a.nodes.set(func(n *nodes) { n.all, n.agents = nil, nil })
	a.assign()
	return nil
}

// assign tells the logs room which pods to follow.
func (a *Agent) assign() { a.rooms.logs.Sync(a.nodes.assigned()) }

func (n *nodes) set(change func(*nodes)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// assigned are the training pods whose output is this process's to ship.
func (n *nodes) assigned() []logs.Pod {
	ready := n.ready()
	n.mu.Lock()
	defer n.mu.Unlock()
	leading := n.all != nil
	sources := n.own
	if leading {
		sources = n.all
	}
	var pods []logs.Pod
	for _, source := range sources {
		for _, obj := range source.List() {
			if pod, ok := sighting(obj.(*corev1.Pod)); ok {
				pods = append(pods, pod)
			}
		}
	}
	return logs.Assign(pods, ready, n.o.NodeName, leading)
}

// ready are the nodes with an agent that is ready; nil while not leading.
func (n *nodes) ready() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agents == nil {
		return nil
	}
	ready := make(map[string]bool)
	for _, obj := range n.agents.List() {
		pod := obj.(*corev1.Pod)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
				ready[pod.Spec.NodeName] = true
			}
		}
	}
	return ready
}

func (n *nodes) kubernetes() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

// sighting is a training pod as the logs room sees it.
func sighting(pod *corev1.Pod) (logs.Pod, bool) {
	id, err := workload.Identify(pod)
	if err != nil {
		return logs.Pod{}, false
	}
	rank, err := workload.Rank(pod)
	if err != nil {
		return logs.Pod{}, false
	}
	p := logs.Pod{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Node: pod.Spec.NodeName,
		Ref: id.Ref, Rank: rank,
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.Name != workload.MainContainer:
		case c.State.Running != nil:
			p.ContainerStarted = c.State.Running.StartedAt.Time
		case c.State.Terminated != nil:
			p.ContainerStarted, p.Ended = c.State.Terminated.StartedAt.Time, true
		}
	}
	return p, true
}

// watch is a group of informers under one context.
type watch struct {
	ctx       context.Context
	client    kubernetes.Interface
	changed   chan struct{}
	factories []informers.SharedInformerFactory
}

func newWatch(ctx context.Context, client kubernetes.Interface) *watch {
	w := &watch{ctx: ctx, client: client, changed: make(chan struct{}, 1)}
	w.poke()
	return w
}

func (w *watch) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// training starts watching the training pods of namespaces.
func (w *watch) training(namespaces []string, field fields.Selector) ([]podSource, error) {
	var sources []podSource
	for _, namespace := range namespaces {
		source, err := w.pods(namespace, workload.Selector, field)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// pods starts watching pods of a namespace.
func (w *watch) pods(namespace, selector string, field fields.Selector) (podSource, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector, o.FieldSelector = selector, field.String()
		}))
	informer := factory.Core().V1().Pods().Informer()
	if err := informer.SetTransform(slim); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.poke() },
		UpdateFunc: func(_, _ any) { w.poke() },
		DeleteFunc: func(any) { w.poke() },
	})
	if err != nil {
		return nil, err
	}
	factory.StartWithContext(w.ctx)
	w.factories = append(w.factories, factory)
	return informer.GetStore(), nil
}

// run calls changed when pods changed, not too often, until the context is
// done and nothing of the watch runs any more.
func (w *watch) run(changed func()) {
	pause := time.NewTicker(changeGap)
	defer pause.Stop()
	for w.ctx.Err() == nil {
		select {
		case <-w.ctx.Done():
		case <-w.changed:
			changed()
			select {
			case <-w.ctx.Done():
			case <-pause.C:
			}
		}
	}
	for _, f := range w.factories {
		f.Shutdown()
	}
}

// slim keeps what a sighting needs of a pod.
func slim(obj any) (any, error) {
	if pod, ok := obj.(*corev1.Pod); ok {
		pod.ManagedFields = nil
		pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName}
	}
	return obj, nil
}

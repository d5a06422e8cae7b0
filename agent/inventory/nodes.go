package inventory

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	podresource "k8s.io/component-helpers/resource"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/trainrelay/trainrelay/protocol"
)

// view is a watched copy of the nodes, and of what runs on them.
type view struct{ nodes, pods cache.SharedIndexInformer }

// watch sets up what is kept, and calls changed when nodes come, go or change.
func (v *view) watch(changed func()) error {
	if err := v.nodes.SetTransform(slimNode); err != nil {
		return err
	}
	if err := v.pods.SetTransform(slimPod); err != nil {
		return err
	}
	_, err := v.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, DeleteFunc: func(any) { changed() },
		UpdateFunc: func(before, now any) {
			if !sameNode(before.(*corev1.Node), now.(*corev1.Node)) {
				changed()
			}
		},
	})
	return err
}

// slimNode keeps of a node what is looked at.
func slimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels},
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints},
		Status:     corev1.NodeStatus{Allocatable: n.Status.Allocatable},
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			slim.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return slim, nil
}

// slimPod keeps of a pod where it is and what it takes.
func slimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	takes := podresource.PodRequests(p, podresource.PodResourcesOptions{})
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion},
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: takes}}}},
	}, nil
}

func sameNode(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && ready(a) == ready(b) &&
		maps.Equal(a.Labels, b.Labels) && slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(a, b corev1.Taint) bool { return a.MatchTaint(&b) && a.Value == b.Value }) &&
		maps.EqualFunc(a.Status.Allocatable, b.Status.Allocatable, resource.Quantity.Equal)
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// state is the nodes at one time.
type state struct {
	known bool // whether the agent sees the nodes
	nodes []nodeState
	pods  bool // and what runs on them
}

type nodeState struct {
	*corev1.Node
	free corev1.ResourceList // may be negative; nil where it is unknown
}

// state copies what the watches show.
func (v *view) state() state {
	s := state{known: v.nodes.HasSynced(), pods: v.pods.HasSynced()}
	if !s.known {
		return s
	}
	taken := map[string]corev1.ResourceList{}
	for _, obj := range v.pods.GetStore().List() {
		pod := obj.(*corev1.Pod)
		if pod.Spec.NodeName == "" {
			continue
		}
		sum := taken[pod.Spec.NodeName]
		if sum == nil {
			sum = corev1.ResourceList{}
			taken[pod.Spec.NodeName] = sum
		}
		add(sum, pod.Spec.Containers[0].Resources.Requests)
		add(sum, corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)})
	}
	for _, obj := range v.nodes.GetStore().List() {
		n := nodeState{Node: obj.(*corev1.Node)}
		if s.pods {
			n.free = less(n.Status.Allocatable, taken[n.Name])
		}
		s.nodes = append(s.nodes, n)
	}
	return s
}

// less is what is left of what a node has, which may be nothing yet.
func less(has, taken corev1.ResourceList) corev1.ResourceList {
	left := corev1.ResourceList{}
	add(left, has)
	for name, amount := range taken {
		rest := left[name]
		rest.Sub(amount)
		left[name] = rest
	}
	return left
}

func add(sum, more corev1.ResourceList) {
	for name, amount := range more {
		total := sum[name]
		total.Add(amount)
		sum[name] = total
	}
}

// inventory sums up the nodes that are ready.
func (s *state) inventory() protocol.Inventory {
	i := protocol.Inventory{Nodes: len(s.nodes)}
	has, free := corev1.ResourceList{}, corev1.ResourceList{}
	for _, n := range s.nodes {
		if !ready(n.Node) {
			continue
		}
		i.Ready++
		add(has, n.Status.Allocatable)
		if !n.Spec.Unschedulable {
			add(free, n.free)
		}
	}
	i.Allocatable = amounts(has, has)
	if s.pods {
		i.Free = amounts(free, has)
	}
	return i
}

// amounts are quantities as text, of the resources in of, none below 0 and not
// more of them than can be told.
func amounts(list, of corev1.ResourceList) map[string]string {
	texts := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		amount := list[name]
		if amount.Sign() < 0 {
			amount = resource.Quantity{}
		}
		if len(texts) < protocol.MaxInventory {
			texts[string(name)] = amount.String()
		}
	}
	return texts
}

// takes says whether a pod may run on the node at all.
func (n *nodeState) takes(selector map[string]string, tolerations []corev1.Toleration) bool {
	if n.Spec.Unschedulable || !ready(n.Node) || !labels.SelectorFromSet(selector).Matches(labels.Set(n.Labels)) {
		return false
	}
	_, untolerated := scheduling.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	return !untolerated
}

// fits is how many pods that ask for so much go into what there is.
func fits(has, asks corev1.ResourceList) int {
	n := math.MaxInt32
	if pods, limited := has[corev1.ResourcePods]; limited {
		n = int(max(0, pods.Value()))
	}
	for name, amount := range asks {
		if amount.IsZero() {
			continue
		}
		there := has[name]
		if name == corev1.ResourceCPU {
			n = min(n, int(max(0, there.MilliValue()/amount.MilliValue())))
		} else {
			n = min(n, int(max(0, there.Value()/max(1, amount.Value()))))
		}
	}
	return n
}

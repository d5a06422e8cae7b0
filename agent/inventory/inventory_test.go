package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

func list(amounts map[string]string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for name, amount := range amounts {
		l[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return l
}

func TestFits(t *testing.T) {
	for name, tc := range map[string]struct {
		has, asks map[string]string
		want      int
	}{
		"the scarcest counts":       {map[string]string{"cpu": "8", "memory": "10Gi", "pods": "110"}, map[string]string{"cpu": "1", "memory": "4Gi"}, 2},
		"parts of a processor":      {map[string]string{"cpu": "1900m", "memory": "10Gi"}, map[string]string{"cpu": "500m"}, 3},
		"devices":                   {map[string]string{"cpu": "8", "nvidia.com/gpu": "3"}, map[string]string{"cpu": "1", "nvidia.com/gpu": "2"}, 1},
		"no such device":            {map[string]string{"cpu": "8"}, map[string]string{"nvidia.com/gpu": "1"}, 0},
		"places for pods":           {map[string]string{"cpu": "8", "pods": "2"}, map[string]string{"cpu": "1m"}, 2},
		"more is taken than is had": {map[string]string{"cpu": "-500m", "memory": "-1Gi"}, map[string]string{"cpu": "1"}, 0},
	} {
		if got := fits(list(tc.has), list(tc.asks)); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func node(name string, change func(*corev1.Node)) nodeState {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": "a"}},
		Status: corev1.NodeStatus{
			Allocatable: list(map[string]string{"cpu": "4", "memory": "16Gi", "pods": "110"}),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	if change != nil {
		change(n)
	}
	return nodeState{Node: n, free: n.Status.Allocatable.DeepCopy()}
}

// TestLess: a node has nothing before its kubelet says so, and pods may be on it
// all the same.
func TestLess(t *testing.T) {
	taken := list(map[string]string{"cpu": "1500m", "example.com/x": "1"})
	if diff := cmp.Diff(map[string]string{"cpu": "2500m"}, amounts(less(list(map[string]string{"cpu": "4"}), taken), list(map[string]string{"cpu": "4"}))); diff != "" {
		t.Error(diff)
	}
	if got := fits(less(nil, taken), list(map[string]string{"cpu": "1"})); got != 0 {
		t.Errorf("%d fit on a node that has nothing", got)
	}
}

// TestCapacity: which nodes count.
func TestCapacity(t *testing.T) {
	taint := func(effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "sku", Value: "gpu", Effect: effect}} }
	}
	busy := node("busy", nil)
	busy.free = list(map[string]string{"cpu": "1", "memory": "16Gi", "pods": "100"})
	s := state{known: true, pods: true, nodes: []nodeState{
		node("plain", nil), busy,
		node("cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
		node("unready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }),
		node("tainted", taint(corev1.TaintEffectNoSchedule)),
		node("disliked", taint(corev1.TaintEffectPreferNoSchedule)),
		node("other", func(n *corev1.Node) { n.Labels["pool"] = "b" }),
	}}
	asks := list(map[string]string{"cpu": "2", "memory": "4Gi"})
	count := func(nodes, largest, fits int) protocol.TypeFound {
		return protocol.TypeFound{Name: "t", Nodes: nodes, Largest: largest, Fits: &fits}
	}
	of := func(selector map[string]string, tolerations ...corev1.Toleration) protocol.TypeFound {
		return s.capacity("t", protocol.InstanceType{NodeSelector: selector}, asks, tolerations)
	}
	for name, tc := range map[string]struct{ got, want protocol.TypeFound }{
		"any node":       {of(nil), count(4, 8, 6)},
		"a pool":         {of(map[string]string{"pool": "a"}), count(3, 6, 4)},
		"tolerated":      {of(map[string]string{"pool": "a"}, corev1.Toleration{Key: "sku", Operator: corev1.TolerationOpExists}), count(4, 8, 6)},
		"no such label":  {of(map[string]string{"pool": "c"}), count(0, 0, 0)},
		"without a pool": {of(map[string]string{"pool": ""}), count(0, 0, 0)},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	i := s.inventory()
	if i.Nodes != 7 || i.Ready != 6 || i.Allocatable["cpu"] != "24" || i.Free["cpu"] != "17" {
		t.Errorf("%+v", i) // what is free on the cordoned one is nobody's
	}
	s.pods = false
	if i := s.inventory(); i.Free != nil || of(nil).Fits != nil {
		t.Errorf("%+v", i)
	}
}

func TestJudge(t *testing.T) {
	i := &Inventory{o: Options{
		Place: func(_ context.Context, namespace string) error {
			if namespace == "train" {
				return nil
			}
			return errors.New("no such namespace")
		},
		Resources: func(k *protocol.InstanceType) (corev1.ResourceRequirements, error) {
			if k.Resources.Requests["cpu"] == "bad" {
				return corev1.ResourceRequirements{}, errors.New("cpu: bad")
			}
			return corev1.ResourceRequirements{Requests: list(k.Resources.Requests)}, nil
		},
		Tolerations: func(*protocol.Compute) []corev1.Toleration { return nil },
	}}
	kind := func(cpu string) protocol.InstanceType {
		return protocol.InstanceType{Resources: protocol.Amounts{Requests: map[string]string{"cpu": cpu}}}
	}
	c := protocol.Compute{Name: "c", Namespace: "train", Revision: 3, ComputeSettings: protocol.ComputeSettings{
		DefaultInstanceType: "small", InstanceTypes: map[string]protocol.InstanceType{"small": kind("1"), "large": kind("64")},
	}}
	own := map[string]protocol.InstanceType{"theirs": kind("2"), "broken": kind("bad"), "small": kind("64")}
	got := i.judge(t.Context(), c, own, state{known: true, pods: true, nodes: []nodeState{node("a", nil)}})
	four, none, two := 4, 0, 2
	want := protocol.ComputeFound{Name: "c", Revision: 3,
		Warnings: []string{
			"instance type large asks for more than any of its 1 nodes has; its jobs wait until there is a larger one",
			"instance type broken of the cluster: cpu: bad",
		},
		Types: []protocol.TypeFound{
			{Name: "large", Nodes: 1, Fits: &none}, {Name: "small", Nodes: 1, Largest: 4, Fits: &four}, {Name: "theirs", Nodes: 1, Largest: 2, Fits: &two},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Namespace, c.InstanceTypes["large"] = "nowhere", kind("bad")
	got = i.judge(t.Context(), c, nil, state{})
	if diff := cmp.Diff([]string{"no such namespace", "instance type large: cpu: bad"}, got.Problems); diff != "" || got.Types != nil {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWorthTelling: what is free alone is told now and then.
func TestWorthTelling(t *testing.T) {
	i := &Inventory{o: Options{TellEvery: time.Minute}}
	begin := time.Now()
	found := func(after time.Duration, free string, fits int, problems ...string) *protocol.Found {
		return &protocol.Found{Time: begin.Add(after), Inventory: protocol.Inventory{Nodes: 1, Free: map[string]string{"cpu": free}},
			Computes: []protocol.ComputeFound{{Name: "c", Problems: problems, Types: []protocol.TypeFound{{Name: "t", Fits: &fits}}}}}
	}
	before := found(0, "4", 4)
	for name, tc := range map[string]struct {
		now  *protocol.Found
		want bool
	}{
		"nothing":      {found(time.Hour, "4", 4), false},
		"free, soon":   {found(time.Second, "3", 3), false},
		"free, later":  {found(time.Minute, "3", 3), true},
		"a problem":    {found(time.Second, "4", 4, "gone"), true},
		"both at once": {found(time.Second, "3", 3, "gone"), true},
	} {
		if got := i.worthTelling(before, tc.now); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestShorten: however much is wrong with however many computes, a sync can
// carry it, and each compute that is Failed stays so.
func TestShorten(t *testing.T) {
	text := strings.Repeat("x", protocol.MaxCheckText)
	f := &protocol.Found{}
	for range protocol.MaxComputes {
		c := protocol.ComputeFound{Name: strings.Repeat("n", protocol.MaxLabel), Types: []protocol.TypeFound{{Name: strings.Repeat("t", protocol.MaxLabel)}, {}}}
		for range protocol.MaxProblems {
			c.Problems, c.Warnings = append(c.Problems, text), append(c.Warnings, text)
		}
		f.Computes = append(f.Computes, c)
	}
	shorten(f)
	raw, err := json.Marshal(f)
	if err != nil || len(raw) > protocol.MaxFound {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	for _, c := range f.Computes {
		if len(c.Problems) != 1 {
			t.Fatalf("%d problems are left", len(c.Problems))
		}
	}
}

func TestParseTypes(t *testing.T) {
	got, err := parseTypes([]byte(`{"items":[
		{"metadata":{"name":"gpu"},"spec":{"nodeSelector":{"sku":"v100"},"resources":{"requests":{"cpu":"700m","memory":"1500Mi"},"limits":{"cpu":1,"memory":"3Gi","nvidia.com/gpu":null}}}},
		{"metadata":{"name":"-bad-"},"spec":{}},
		{"metadata":{"name":"worse"},"spec":{"resources":{"limits":{"cpu":{"of":"nothing"}}}}}]}`))
	want := map[string]protocol.InstanceType{"gpu": {NodeSelector: map[string]string{"sku": "v100"}, Resources: protocol.Amounts{
		Requests: map[string]string{"cpu": "700m", "memory": "1500Mi"}, Limits: map[string]string{"cpu": "1", "memory": "3Gi"},
	}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := parseTypes([]byte("<html>")); err == nil || !strings.Contains(err.Error(), "the cluster's instance types") {
		t.Error(err)
	}
}

// FuzzTypes: whatever objects a cluster has, what is read of them is valid.
func FuzzTypes(f *testing.F) {
	f.Add([]byte(`{"items":[{"metadata":{"name":"gpu"},"spec":{"resources":{"limits":{"cpu":1}}}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		types, err := parseTypes(raw)
		if err != nil {
			return
		}
		for name := range types {
			settings := protocol.ComputeSettings{DefaultInstanceType: name, InstanceTypes: types}
			if err := settings.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

package apiserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trainrelay/trainrelay/agent/inventory"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// instanceTypes has the API server know the InstanceTypes of Azure's extension,
// and one of them.
var instanceTypes = sync.OnceValue(func() error {
	const crd = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"instancetypes.amlarc.azureml.com"},
		"spec":{"group":"amlarc.azureml.com","scope":"Cluster","names":{"kind":"InstanceType","listKind":"InstanceTypeList","plural":"instancetypes","singular":"instancetype"},
		"versions":[{"name":"v1alpha1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`
	const large = `{"apiVersion":"amlarc.azureml.com/v1alpha1","kind":"InstanceType","metadata":{"name":"large"},
		"spec":{"resources":{"requests":{"cpu":"8","memory":"32Gi"},"limits":{"cpu":"8","memory":"32Gi","nvidia.com/gpu":1}}}}`
	rest := site.Client().Discovery().RESTClient()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := rest.Post().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").Body([]byte(crd)).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for {
		err := rest.Post().AbsPath("/apis/amlarc.azureml.com/v1alpha1/instancetypes").Body([]byte(large)).Do(ctx).Error()
		if err == nil || apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond) // until it is served
	}
})

// takeStock runs an inventory in the plot for a compute.
func (p *plot) takeStock(c protocol.Compute) *inventory.Inventory {
	p.Helper()
	i, err := inventory.New(inventory.Options{
		Client: p.client(), Resources: workload.ResourcesOf, Tolerations: workload.TolerationsOf,
		Place:   func(context.Context, string) error { return nil },
		Way:     func() (string, time.Duration) { return "direct", time.Millisecond },
		Changed: func() {}, TellEvery: time.Millisecond, Log: zerolog.New(zerolog.NewTestWriter(p.T)),
	})
	if err != nil {
		p.Fatal(err)
	}
	i.Want([]protocol.Compute{c}, nil)
	ctx, cancel := context.WithCancel(p.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	p.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.Error(err)
		}
	})
	return i
}

// capacity is what was found of an instance type; nil for nothing yet.
func capacity(i *inventory.Inventory, name string) *protocol.TypeFound {
	found := i.Found()
	if found == nil || len(found.Computes) == 0 {
		return nil
	}
	for _, t := range found.Computes[0].Types {
		if t.Name == name {
			return &t
		}
	}
	return nil
}

// stockedNode makes a node that is ready, with a label and a taint of that value, and so many processors.
func stockedNode(t *testing.T, pool, cpu string) string {
	t.Helper()
	// Tainted before it is ready: the scheduler gives it no pod of another test.
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "stock-" + strings.ToLower(rand.Text()[:8]), Labels: map[string]string{"pool": pool}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "pool", Value: pool, Effect: corev1.TaintEffectNoSchedule}}},
	}
	nodes := site.Client().CoreV1().Nodes()
	made, err := nodes.Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(context.WithoutCancel(t.Context()), made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	const format = `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Test"}],"allocatable":{"cpu":"CPU","memory":"64Gi","pods":"110"}}}`
	if _, err := nodes.Patch(t.Context(), made.Name, types.StrategicMergePatchType, []byte(strings.ReplaceAll(format, "CPU", cpu)), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	// A node that is not heard of counts as lost after 40 s, which a busy machine
	// makes a test last.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		for tick := time.NewTicker(5 * time.Second); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case now := <-tick.C:
				beat := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Test","lastHeartbeatTime":%q}]}}`, now.UTC().Format(time.RFC3339))
				_, _ = nodes.Patch(ctx, made.Name, types.StrategicMergePatchType, []byte(beat), metav1.PatchOptions{}, "status")
			}
		}
	}()
	t.Cleanup(func() { stop(); <-beating })
	// No taint of a node that is not ready is left.
	taint := fmt.Sprintf(`{"spec":{"taints":[{"key":"pool","value":%q,"effect":"NoSchedule"}]}}`, pool)
	if _, err := nodes.Patch(t.Context(), made.Name, types.MergePatchType, []byte(taint), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.Name
}

// tellsInventory: nodes by their labels, what fits them empty and now, and the
// cluster's own instance types.
func tellsInventory(p *plot, watchless bool) bool {
	if err := instanceTypes(); err != nil {
		p.Fatal(err)
	}
	pool := strings.ToLower(rand.Text()[:8])
	node := stockedNode(p.T, pool, "8")
	i := p.takeStock(protocol.Compute{Name: "onprem", Namespace: p.jobs, Revision: 7, ComputeSettings: protocol.ComputeSettings{
		DefaultInstanceType: "small", Tolerations: []protocol.Toleration{{Key: "pool", Value: pool}},
		InstanceTypes: map[string]protocol.InstanceType{"small": {
			NodeSelector: map[string]string{"pool": pool}, Resources: protocol.Amounts{Requests: map[string]string{"cpu": "2", "memory": "1Gi"}},
		}},
	}})
	fits := func(nodes, largest, now int) bool {
		t := capacity(i, "small")
		return t != nil && t.Nodes == nodes && t.Largest == largest && t.Fits != nil && *t.Fits == now
	}
	if !p.eventually(func() bool {
		return fits(1, 4, 4) && i.InstanceTypes()["large"].Resources.Limits["nvidia.com/gpu"] == "1"
	}) {
		return false
	}
	p.settle(watchless)
	stockedNode(p.T, pool, "4")
	if !p.eventually(func() bool { return fits(2, 6, 6) }) {
		return false
	}
	_, err := site.Client().CoreV1().Pods(p.jobs).Create(p.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "takes"},
		Spec: corev1.PodSpec{NodeName: node, AutomountServiceAccountToken: new(bool), Containers: []corev1.Container{{Name: "main", Image: "none:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("3")}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		p.Fatal(err)
	}
	return p.eventually(func() bool { return fits(2, 6, 4) }) // two of four on the first node
}

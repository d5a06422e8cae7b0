package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// seedFile is the example of Azure's documents of 2021, byte for byte.
	seedFile  = "../internal/jobspec/testdata/compute/seed.json"
	seedSpace = "amlarc-testing"
)

// resourceID is the cluster as Azure writes it.
func resourceID(t *testing.T) string {
	return "/subscriptions/123/resourceGroups/rg/providers/Microsoft.Kubernetes/connectedClusters/" + site(t).ClusterName
}

// compute runs a command about a compute.
func compute(t *testing.T, args ...string) (v1.Compute, string, int) {
	t.Helper()
	out := site(t).CLI(context.WithoutCancel(t.Context()), append([]string{"compute"}, args...)...)
	var c v1.Compute
	if out.Stdout != "" {
		if err := json.Unmarshal([]byte(out.Stdout), &c); err != nil {
			t.Fatalf("compute %s: %v in %s", strings.Join(args, " "), err, out.Stdout)
		}
	}
	return c, out.Stderr, out.Code
}

// attach attaches a compute and detaches it after the test.
func attach(t *testing.T, name string, args ...string) v1.Compute {
	t.Helper()
	t.Cleanup(func() {
		if _, stderr, code := compute(t, "detach", "--name", name, "--jobs", "cancel"); code != 0 && code != exitNotFound {
			t.Errorf("detach %s: exit code %d: %s", name, code, stderr)
		}
	})
	c, stderr, code := compute(t, append([]string{"attach", "--name", name}, args...)...)
	if code != 0 || c.ProvisioningState != v1.Succeeded {
		t.Fatalf("attach %s: exit code %d, %s: %s", name, code, c.ProvisioningState, stderr)
	}
	return c
}

// namespace makes a namespace, which goes after the test.
func namespace(t *testing.T, name string) {
	t.Helper()
	client := site(t).Client.CoreV1().Namespaces()
	if _, err := client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The agent's list first: a namespace that is gone would keep it from upgrading.
		ctx := context.WithoutCancel(t.Context())
		if out := site(t).Connect(ctx); out.Code != 0 {
			t.Errorf("the chart keeps namespace %s: %s", name, out.Stderr)
		}
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func theNode(t *testing.T) string {
	t.Helper()
	nodes, err := site(t).Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	return nodes.Items[0].Name
}

// label gives a node a label, until the test ends.
func label(t *testing.T, node, key, value string) {
	t.Helper()
	set := func(ctx context.Context, value string) {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
		if _, err := site(t).Client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	set(t.Context(), fmt.Sprintf("%q", value))
	t.Cleanup(func() { set(context.WithoutCancel(t.Context()), "null") })
}

// withGPUs has the node say that it has GPUs: the scheduler and the kubelet count
// them as they would count real ones.
func withGPUs(t *testing.T, node string, n int) {
	t.Helper()
	set := func(ctx context.Context, op string) {
		patch := fmt.Sprintf(`[{"op":%q,"path":"/status/capacity/nvidia.com~1gpu","value":"%d"}]`, op, n)
		if _, err := site(t).Client.CoreV1().Nodes().Patch(ctx, node, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Error(err)
		}
	}
	set(t.Context(), "add")
	t.Cleanup(func() { set(context.WithoutCancel(t.Context()), "remove") })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		got, err := site(t).Client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if gpus := got.Status.Allocatable["nvidia.com/gpu"]; gpus.Value() == int64(n) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the kubelet does not offer the GPUs")
		}
	}
}

// typeOf is what is said of an instance type of a compute.
func typeOf(t *testing.T, c v1.Compute, name string) v1.InstanceTypeShown {
	t.Helper()
	i := slices.IndexFunc(c.Capacity, func(s v1.InstanceTypeShown) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("compute %s has no instance type %s: %+v", c.Name, name, c.Capacity)
	}
	return c.Capacity[i]
}

// TestAttachSeedExamples: the documents' cluster id and configuration files as
// they stand, and the namespace that the agent was not set up for before.
func TestAttachSeedExamples(t *testing.T) {
	namespace(t, seedSpace)
	node := theNode(t)
	label(t, node, "accelerator", "nvidia-tesla-k80")
	withGPUs(t, node, 2)

	c := attach(t, "amlarc-compute", "--resource-id", resourceID(t), "--config-file", seedFile, "--apply", "--timeout", "4m")
	if c.Namespace != seedSpace || c.Cluster != site(t).ClusterName || c.DefaultInstanceType != "gpu_instance" || c.ResourceID != resourceID(t) {
		t.Errorf("%+v", c)
	}
	if c.Status.ProvisioningState != v1.Succeeded || c.Status.CreationTime.IsZero() || c.Status.ModifiedTime.Before(c.Status.CreationTime) {
		t.Errorf("the status is %+v", c.Status)
	}
	if gpu := typeOf(t, c, "gpu_instance"); !gpu.Default || gpu.Nodes != 1 || gpu.Fits == nil {
		t.Errorf("%+v", gpu)
	}
	if cpu := typeOf(t, c, "big_cpu_sku"); cpu.Nodes != 0 || cpu.Largest != 0 {
		t.Errorf("%+v", cpu)
	}
	if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "VMSizes=VM-64vCPU-256GB") }) {
		t.Errorf("nothing warns of labels that no node has: %q", c.Warnings)
	}
	// Too large for the lab's node: said when it is submitted.
	name := unique("big")
	out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: sleep 1\ncompute: amlarc-compute\nresources:\n  instance_type: big_cpu_sku\n"), "--name", name)
	if out.Code != 0 || !strings.Contains(out.Stderr, "warning: no node of cluster "+site(t).ClusterName+" has what instance type big_cpu_sku selects") {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
	cancel(t, name)

	// The default of the documents, in the namespace default.
	d, stderr, code := compute(t, "attach", "--name", "by-default", "--cluster", site(t).ClusterName, "--config-file", "../internal/jobspec/testdata/compute/default.json")
	t.Cleanup(func() { compute(t, "detach", "--name", "by-default") })
	if code == 0 || d.Namespace != "default" || d.ProvisioningState != v1.Failed || !strings.Contains(stderr, "the agent is not set up for namespace default") {
		t.Errorf("exit code %d, %+v: %s", code, d, stderr)
	}
}

// TestAttachFailures: what cannot work says so, with what to do, and turns
// Succeeded once that is done.
func TestAttachFailures(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "compute.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	here := []string{"--cluster", site(t).ClusterName, "--namespace", site(t).Namespace}
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"missing-namespace": {[]string{"--cluster", site(t).ClusterName, "--namespace", "nowhere"}, 1, []string{"namespace nowhere does not exist; make it: kubectl create namespace nowhere"}},
		"no-role":           {[]string{"--cluster", site(t).ClusterName, "--namespace", "kube-public"}, 1, []string{"not set up for namespace kube-public", "helm upgrade trainrelay-agent", "computeNamespaces={" + site(t).Namespace + ",kube-public}"}},
		"agents-own":        {[]string{"--cluster", site(t).ClusterName, "--namespace", "azureml"}, 1, []string{"the agent's own"}},
		"no-cluster":        {[]string{"--cluster", "elsewhere"}, 1, []string{`there is no cluster "elsewhere"`}},
		"no-id":             {[]string{"--resource-id", "/subscriptions/123"}, exitUsage, []string{"invalid resource_id provided"}},
		"more-than-limits":  {append(here, "--config-file", write(`{"defaultInstanceType":"a","instanceTypes":{"a":{"resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}}}}`)), 1, []string{"instance type a: cpu: requests 2 are more than limits 1"}},
		"unequal-gpus":      {append(here, "--config-file", write(`{"defaultInstanceType":"a","instanceTypes":{"a":{"resources":{"requests":{"nvidia.com/gpu":1},"limits":{"nvidia.com/gpu":2}}}}}`)), 1, []string{"have to be equal"}},
		"no-default":        {append(here, "--config-file", write(`{"instanceTypes":{"a":{}}}`)), exitUsage, []string{"no default; name one of a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { compute(t, "detach", "--name", name) })
			c, stderr, code := compute(t, append([]string{"attach", "--name", name}, tc.args...)...)
			if code != tc.code || c.Name != "" && c.ProvisioningState != v1.Failed {
				t.Errorf("exit code %d, %s", code, c.ProvisioningState)
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q: %s", want, stderr)
				}
			}
		})
	}

	t.Run("mended", func(t *testing.T) {
		t.Cleanup(func() { compute(t, "detach", "--name", "mended") })
		bad := write(`{"defaultInstanceType":"a","instanceTypes":{"a":{"resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}}}}`)
		good := write(`{"defaultInstanceType":"a","instanceTypes":{"a":{"resources":{"requests":{"cpu":"100m"},"limits":{"cpu":"1"}}}}}`)
		if _, _, code := compute(t, append([]string{"attach", "--name", "mended", "--config-file", bad}, here...)...); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if c, stderr, code := compute(t, "update", "--name", "mended", "--config-file", good); code != 0 || c.ProvisioningState != v1.Succeeded {
			t.Errorf("exit code %d, %s: %s", code, c.ProvisioningState, stderr)
		}
	})
}

// TestInstanceTypes: a job goes to nodes that have what its instance type wants,
// gets what it says, and one whose type fits nowhere keeps no other from running.
func TestInstanceTypes(t *testing.T) {
	node := theNode(t)
	label(t, node, "accelerator", "nvidia-tesla-k80")
	withGPUs(t, node, 2)
	file := filepath.Join(t.TempDir(), "compute.yml")
	// The documents' types, of a size that the lab's node has.
	const text = `
default_instance_type: gpu_instance
instance_types:
  - name: gpu_instance
    node_selector: {accelerator: nvidia-tesla-k80}
    resources:
      requests: {cpu: 100m, memory: 256Mi, nvidia.com/gpu: 1}
      limits: {cpu: 1, memory: 1Gi, nvidia.com/gpu: 1}
  - name: big_cpu_sku
    node_selector: {VMSizes: VM-64vCPU-256GB}
    resources: {requests: {cpu: 100m, memory: 256Mi}}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := attach(t, "typed", "--cluster", site(t).ClusterName, "--namespace", site(t).Namespace, "--file", file)
	if gpu := typeOf(t, c, "gpu_instance"); gpu.Largest != 2 || gpu.Fits == nil || *gpu.Fits != 2 {
		t.Errorf("two GPUs, and %+v", gpu)
	}
	job := func(name, kind string) {
		text := "command: echo on $NODE\ncompute: typed\n"
		if kind != "" {
			text += "resources:\n  instance_type: " + kind + "\n"
		}
		submit(t, name, text)
	}
	waits, runs := unique("cpu"), unique("gpu")
	job(waits, "big_cpu_sku")
	waitFor(t, waits, func(j v1.Job) bool { return j.Reason != nil && j.Reason.Code == protocol.Unschedulable })
	job(runs, "")
	ended := waitFor(t, runs, func(j v1.Job) bool { return j.Status == protocol.Completed })
	if ended.Resources.InstanceType != "gpu_instance" || ended.Node != node {
		t.Errorf("%+v on node %s", ended.Resources, ended.Node)
	}
	pods := kubernetesPods(t, runs)
	if len(pods) != 1 {
		t.Fatalf("%d pods", len(pods))
	}
	limits := pods[0].Spec.Containers[0].Resources.Limits
	if gpus := limits["nvidia.com/gpu"]; gpus.Value() != 1 || limits.Memory().String() != "1Gi" || pods[0].Spec.NodeSelector["accelerator"] != "nvidia-tesla-k80" {
		t.Errorf("the pod has %v, %v", limits, pods[0].Spec.NodeSelector)
	}
	label(t, node, "VMSizes", "VM-64vCPU-256GB")
	if ended := waitFor(t, waits, func(j v1.Job) bool { return j.Status == protocol.Completed }); ended.Resources.InstanceType != "big_cpu_sku" {
		t.Errorf("%+v", ended.Resources)
	}
	out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: true\ncompute: typed\nresources:\n  instance_type: huge\n"))
	if out.Code != 1 || !strings.Contains(out.Stderr, `compute typed has no instance type "huge"; it has gpu_instance, big_cpu_sku`) {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}

// TestReattach: nothing is left of a compute that was detached, and its name can
// be used again; jobs that are left are canceled, where that is wanted.
func TestReattach(t *testing.T) {
	here := []string{"--cluster", site(t).ClusterName, "--namespace", site(t).Namespace}
	first := attach(t, "again", append(here, "--description", "first", "--config-file", filepath.Join(site(t).Dir, "compute.json"))...)
	name := unique("left")
	submit(t, name, "command: sleep 600\ncompute: again\n")
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
	if _, stderr, code := compute(t, "detach", "--name", "again"); code != 1 || !strings.Contains(stderr, "1 unfinished jobs") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stderr, code := compute(t, "detach", "--name", "again", "--jobs", "cancel"); code != 0 || !strings.Contains(stderr, "compute again is detached") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if job := showJob(t, name); job.Status != protocol.Canceled || job.Reason == nil || !strings.Contains(job.Reason.Message, "compute again was detached") {
		t.Errorf("%s, %v", job.Status, job.Reason)
	}
	if jobs := kubernetesJobs(t, name); len(jobs) != 0 {
		t.Errorf("%d Kubernetes Jobs are left", len(jobs))
	}
	if _, _, code := compute(t, "show", "--name", "again"); code != exitNotFound {
		t.Errorf("it is still there: exit code %d", code)
	}
	second := attach(t, "again", here...)
	if second.Description != "" || len(second.InstanceTypes) != 0 || !second.CreationContext.CreatedAt.After(first.CreationContext.CreatedAt) {
		t.Errorf("something is left of the first: %+v", second)
	}
	out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName, "-o", "json")
	var shown v1.Cluster
	if err := json.Unmarshal([]byte(out.Stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if i := shown.Inventory; i == nil || i.Ready != 1 || !strings.Contains(i.Proxy, ":3128") || i.RoundTrip <= 0 || len(i.Resources) == 0 {
		t.Errorf("the cluster's inventory is %+v", i)
	}
}

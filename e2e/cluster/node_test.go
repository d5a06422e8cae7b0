package cluster_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/images"
)

// program trains on scikit-learn's own data, and asks the cluster's DNS.
const program = `
import socket
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
score = LogisticRegression(max_iter=1000).fit(X, y).score(X, y)
print("trained on", len(X), "good" if score > 0.9 else "bad")
print("server", socket.gethostbyname("kubernetes.default.svc.cluster.local"))
try:
    socket.gethostbyname("relay.example")
except socket.gaierror as e:
    print("outside", e.strerror)
`

// A node runs real training to its end, dies and comes back; afterwards nothing
// is left of it all.
func TestNode(t *testing.T) {
	needRoot(t)
	image, err := images.Python(t.Context(), images.PythonOptions{Cache: "../../dist/images", Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	before := machineState(t)
	c := start(t, cluster.Options{Nodes: 1})
	if err := c.Import(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	want := "trained on 150 good\nserver 10.96.0.1\noutside Name or service not known\n"
	if diff := cmp.Diff(want, runToEnd(t, c, "first")); diff != "" {
		t.Errorf("log of the first job (-want +got):\n%s", diff)
	}

	node := c.Component("node1")
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Component("node1/kubelet").Alive() {
		t.Error("the kubelet outlived its node")
	}
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, runToEnd(t, c, "second")); diff != "" {
		t.Errorf("log of the job after the node's return (-want +got):\n%s", diff)
	}

	// A second cluster cannot have the same addresses, and says why.
	_, err = cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Bin: bin, Nodes: 1})
	if err == nil || !strings.Contains(err.Error(), "take that down first") {
		t.Errorf("a second cluster with nodes: %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, machineState(t)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// runToEnd runs the program as a Job and returns its log.
func runToEnd(t *testing.T, c *cluster.Cluster, name string) string {
	t.Helper()
	jobs := c.Client().BatchV1().Jobs("default")
	made, err := jobs.Create(t.Context(), job(name, images.PythonTag, "python3", "-c", program), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watcher := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.FieldSelector = "metadata.name=" + name
		return jobs.Watch(ctx, o)
	}}
	_, err = watchtools.Until(t.Context(), made.ResourceVersion, watcher, func(e watch.Event) (bool, error) {
		j, ok := e.Object.(*batchv1.Job)
		return ok && (j.Status.Succeeded > 0 || j.Status.Failed > 0), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pods := c.Client().CoreV1().Pods("default")
	found, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
	if err != nil || len(found.Items) != 1 {
		t.Fatalf("pods of job %s: %v, %v", name, found, err)
	}
	log, err := pods.GetLogs(found.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/e2e/cluster"
)

const bin = "../../bin/cluster"

// start starts a cluster that ends with the test.
func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	o.Bin, o.Log = bin, t.Logf
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "cluster")
	}
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c
}

// job is a Job of one container.
func job(name, image string, command ...string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: "main", Image: image, Command: command}},
			}},
		},
	}
}

// Two API servers run side by side, without root and without a network of
// their own, and know nothing of each other.
func TestServersSideBySide(t *testing.T) {
	before := machineState(t)
	var clusters [2]*cluster.Cluster
	var starting sync.WaitGroup
	for i := range clusters {
		starting.Go(func() { clusters[i] = start(t, cluster.Options{}) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	jobs := clusters[0].Client().BatchV1().Jobs("default")
	if _, err := jobs.Create(t.Context(), job("only-here", "none"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		list, err := clusters[i].Client().BatchV1().Jobs("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != want {
			t.Errorf("cluster %d has %d Jobs, want %d", i, len(list.Items), want)
		}
	}
	if diff := cmp.Diff(before, machineState(t)); diff != "" {
		t.Errorf("the machine has changed (-before +with clusters):\n%s", diff)
	}
}

// A killed API server comes back with what it held.
func TestServerRestart(t *testing.T) {
	c := start(t, cluster.Options{})
	jobs := c.Client().BatchV1().Jobs("default")
	if _, err := jobs.Create(t.Context(), job("kept", "none"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	server := c.Component(cluster.APIServer)
	if err := server.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.Alive() {
		t.Error("the API server is alive after Kill")
	}
	if _, err := jobs.Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a dead API server answers")
	}
	for _, name := range []string{cluster.APIServer, cluster.Etcd} {
		if err := c.Component(name).Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := jobs.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Errorf("after a restart of %s: %v", name, err)
		}
	}
}

// A paused component does nothing until it is resumed.
func TestPause(t *testing.T) {
	c := start(t, cluster.Options{Audit: true})
	if err := c.Component(cluster.ControllerManager).Pause(); err != nil {
		t.Fatal(err)
	}
	namespaces := c.Client().CoreV1().Namespaces()
	made, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "waiting"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	accounts := c.Client().CoreV1().ServiceAccounts(made.Name)
	if _, err := accounts.Get(t.Context(), "default", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("while the controllers are paused, the default account: %v, want not found", err)
	}
	watch, err := accounts.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if err := c.Component(cluster.ControllerManager).Resume(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.ResultChan():
	case <-time.After(time.Minute):
		t.Error("the resumed controllers made no default account")
	}
	log, err := os.ReadFile(c.AuditLog())
	if err != nil || !strings.Contains(string(log), `"name":"waiting"`) {
		t.Errorf("the audit log does not tell of the namespace: %v", err)
	}
}

func TestUnknownComponent(t *testing.T) {
	c := start(t, cluster.Options{})
	err := c.Component("node1").Kill(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no component node1: it has apiserver, ") {
		t.Errorf("Kill of a component that is not there: %v", err)
	}
}

func TestOptions(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		options cluster.Options
		want    string
	}{
		{"no folder", cluster.Options{Bin: bin}, "Dir and Bin are needed"},
		{"too many nodes", cluster.Options{Bin: bin, Dir: t.TempDir(), Nodes: 10}, "not 0 to 9"},
		{"no binaries", cluster.Options{Bin: t.TempDir(), Dir: t.TempDir()}, "build the cluster's binaries first"},
		{"somebody's folder", cluster.Options{Bin: bin, Dir: foreign}, "not a cluster's"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := cluster.Start(t.Context(), test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	if err := cluster.Down(t.Context(), foreign); err == nil {
		t.Error("Down took away a folder that is not a cluster's")
	}
	if _, err := os.Stat(filepath.Join(foreign, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

// Package apiserver tests the agent against a real API server with its
// controllers and scheduler, but without nodes: the tests play the kubelet.
// Everything that the agent does is done with the permissions that it will
// have, and nothing but the API is looked at.
package apiserver

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/trainrelay/trainrelay/e2e/cluster"
)

// site is the API server of all tests; each uses namespaces of its own.
var site *cluster.Cluster

// node is where tests bind pods. Nothing runs there.
const node = "node1"

func TestMain(m *testing.M) {
	flag.Parse()
	// Those that run side by side wait, most of the time.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "apiserver")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	state := filepath.Join(dir, "cluster")
	site, err = cluster.Start(ctx, cluster.Options{Dir: state, Bin: "../../bin/cluster"})
	defer func() {
		err := cluster.Down(ctx, state)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e/apiserver: something is left behind:", err)
			code = 1
		}
	}()
	if err == nil {
		err = prepare(ctx, site.Client())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// prepare makes the node and the one ClusterRole that the agent has.
func prepare(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = client.RbacV1().ClusterRoles().Create(ctx, clusterRole(), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, clusterRoleBinding(), metav1.CreateOptions{})
	return err
}

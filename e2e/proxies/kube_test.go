package proxies

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// node is where the test, as the kubelet, runs pods. Nothing runs there.
const node = "node1"

// prepareCluster makes the node, and the agents' kubeconfig.
func (g *ground) prepareCluster(ctx context.Context) error {
	_, err := g.site.Client().CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(g.site.Kubeconfig())
	if err != nil {
		return err
	}
	for _, c := range config.Clusters {
		c.Server = "https://" + net.JoinHostPort(siteIP, strconv.Itoa(serverPort))
		c.TLSServerName = "127.0.0.1"
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return err
	}
	return clientcmd.WriteToFile(*config, g.kubeconfig())
}

func (g *ground) kubeconfig() string { return g.path("kubeconfig") }

func newNamespace(t *testing.T, name string) {
	t.Helper()
	_, err := world.site.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitJob waits for the Kubernetes Job of a job's first attempt.
func awaitJob(t *testing.T, namespace, name string) *batchv1.Job {
	t.Helper()
	var job *batchv1.Job
	until(t, "Kubernetes Job of "+name, func() bool {
		var err error
		job, err = world.site.Client().BatchV1().Jobs(namespace).Get(t.Context(), workload.Name(protocol.Ref{Job: name, Attempt: 1}), metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	})
	return job
}

// awaitPod waits for the one pod of a Job.
func awaitPod(t *testing.T, job *batchv1.Job) corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	until(t, "pod of "+job.Name, func() bool {
		list, err := world.site.Client().CoreV1().Pods(job.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 1 {
			pod = list.Items[0]
		}
		return len(list.Items) == 1
	})
	return pod
}

// succeed plays the kubelet for a pod whose command exits with 0 at once.
func succeed(ctx context.Context, pod corev1.Pod) error {
	pods := world.site.Client().CoreV1().Pods(pod.Namespace)
	err := pods.Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": corev1.PodStatus{
		Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{
			Name: workload.MainContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Now()}},
		}},
	}})
	if err != nil {
		return err
	}
	_, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

package chart

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/trainrelay/trainrelay/e2e/cluster"
)

// startServer runs an API server with compute namespaces until the test ends.
func startServer(t *testing.T, namespaces ...string) *cluster.Cluster {
	t.Helper()
	options := cluster.Options{Dir: filepath.Join(t.TempDir(), "cluster"), Bin: "../../bin/cluster", Log: t.Logf}
	server, err := cluster.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	for _, name := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := server.Client().CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return server
}

// agentOf has the rights of the agent's account.
func agentOf(t *testing.T, server *cluster.Cluster) kubernetes.Interface {
	t.Helper()
	config := server.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:azureml:trainrelay-agent"}
	agent, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return agent
}

// TestInstalled: a real API server takes every object as it stands, and lets
// the agent's account do what the agent does and nothing beside it.
func TestInstalled(t *testing.T) {
	ctx := t.Context()
	server := startServer(t, "train", "other")
	admin := server.Client()
	install(t, server.Config(), objects(t, minimal, "namespace.create=true", "inventory.pods=false"))

	agent := agentOf(t, server)

	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}}}
	_, err := agent.BatchV1().Jobs("train").Create(ctx, job, metav1.CreateOptions{})
	allowed(t, "create a Job in a compute namespace", err)
	_, err = agent.BatchV1().Jobs("other").Create(ctx, job, metav1.CreateOptions{})
	refused(t, "create a Job in another namespace", err)
	_, err = agent.CoreV1().Secrets("azureml").Get(ctx, "trainrelay-agent", metav1.GetOptions{})
	allowed(t, "read its own Secret", err)
	_, err = agent.CoreV1().Secrets("azureml").Get(ctx, "trainrelay-agent-join", metav1.GetOptions{})
	refused(t, "read another Secret of its namespace", err)
	_, err = agent.CoreV1().Secrets("azureml").List(ctx, metav1.ListOptions{})
	refused(t, "list the Secrets of its namespace", err)
	_, err = agent.CoordinationV1().Leases("azureml").Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{})
	refused(t, "create a Lease", err)
	_, err = agent.CoreV1().Secrets("train").List(ctx, metav1.ListOptions{})
	refused(t, "list the Secrets of a compute namespace", err)
	_, err = agent.CoreV1().Pods("azureml").List(ctx, metav1.ListOptions{})
	allowed(t, "list the agents", err)
	_, err = agent.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	refused(t, "list all pods", err)
	_, err = agent.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	allowed(t, "list the nodes", err)
	_, err = agent.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{})
	refused(t, "create a node", err)
	_, err = agent.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
	refused(t, "list all Secrets", err)
	_, err = agent.CoreV1().Namespaces().Get(ctx, "other", metav1.GetOptions{})
	allowed(t, "get a namespace", err)
	_, err = agent.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	refused(t, "list the namespaces", err)

	// What the ClusterRole is for: the agent is told that a namespace is gone.
	if err := admin.CoreV1().Namespaces().Delete(ctx, "train", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := agent.CoreV1().Namespaces().Get(ctx, "train", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		t.Errorf("the agent is not told that the namespace is gone: %v", err)
	}
}

// install creates objects, with the server rejecting unknown fields.
func install(t *testing.T, config *rest.Config, all []runtime.Object) {
	t.Helper()
	admin, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(admin.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range all {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: fields}
		mapping, err := mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Resource(mapping.Resource).Namespace(u.GetNamespace()).
			Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

func allowed(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("the agent cannot %s: %v", what, err)
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("the agent can %s: %v", what, err)
	}
}

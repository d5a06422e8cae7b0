package apiserver

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// eventually polls the API until done is true.
func eventually(t *testing.T, what string, done func(ctx context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 25*time.Millisecond, patience, true, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// jobOf returns an attempt's Job, or nil.
func jobOf(t *testing.T, namespace string, ref protocol.Ref) *batchv1.Job {
	t.Helper()
	job, err := site.Client().BatchV1().Jobs(namespace).Get(t.Context(), workload.Name(ref), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// schedule waits for the attempt's pods, and binds them to the node.
func schedule(t *testing.T, namespace string, ref protocol.Ref) []corev1.Pod {
	t.Helper()
	return scheduleOn(t, namespace, ref, node)
}

func scheduleOn(t *testing.T, namespace string, ref protocol.Ref, node string) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	eventually(t, "pods", func(ctx context.Context) (bool, error) {
		list, err := site.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + workload.Name(ref)})
		if err != nil {
			return false, err
		}
		pods = list.Items
		job := jobOf(t, namespace, ref)
		return job != nil && len(pods) == int(*job.Spec.Completions), nil
	})
	for _, pod := range pods {
		err := site.Client().CoreV1().Pods(namespace).Bind(t.Context(), &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: node},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	return pods
}

// report patches a pod's status, as its kubelet would.
func report(t *testing.T, pod corev1.Pod, status corev1.PodStatus) {
	t.Helper()
	if err := patchStatus(t.Context(), pod, status); err != nil {
		t.Fatal(err)
	}
}

func patchStatus(ctx context.Context, pod corev1.Pod, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = site.Client().CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// runs says that a pod's command runs.
func runs(t *testing.T, pod corev1.Pod) {
	t.Helper()
	report(t, pod, started())
}

// exits says that a pod's command has ended.
func exits(t *testing.T, pod corev1.Pod, code int32) {
	t.Helper()
	report(t, pod, exited(code))
}

func started() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
		Name: workload.MainContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}}
}

func exited(code int32) corev1.PodStatus {
	phase := corev1.PodSucceeded
	if code != 0 {
		phase = corev1.PodFailed
	}
	return corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{
		Name: workload.MainContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}},
	}}}
}

// obey waits until a pod is to stop, and stops it, as its kubelet would.
func obey(t *testing.T, pod corev1.Pod) {
	t.Helper()
	pods := site.Client().CoreV1().Pods(pod.Namespace)
	eventually(t, "pod to be stopped", func(ctx context.Context) (bool, error) {
		now, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return err == nil && now.DeletionTimestamp != nil, err
	})
	err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

package extension

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what a component is like.
type verdict struct {
	ready  bool
	failed bool // it does not become ready by itself
	detail string
}

// judgeDaemonSet judges by what its controller says. nowhere is what it means
// that no node is to have a pod.
func judgeDaemonSet(d *appsv1.DaemonSet, nowhere string) verdict {
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return verdict{detail: "the cluster has not looked at it yet"}
	case s.DesiredNumberScheduled == 0:
		return verdict{ready: true, detail: nowhere}
	}
	ready := min(s.NumberReady, s.UpdatedNumberScheduled)
	return verdict{
		ready:  ready >= s.DesiredNumberScheduled,
		detail: fmt.Sprintf("%d of %d pods are ready", ready, s.DesiredNumberScheduled),
	}
}

func judgeDeployment(d *appsv1.Deployment) verdict {
	s := d.Status
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	if s.ObservedGeneration < d.Generation {
		return verdict{detail: "the cluster has not looked at it yet"}
	}
	ready := min(s.AvailableReplicas, s.UpdatedReplicas)
	v := verdict{ready: ready >= want && s.Replicas <= want, detail: fmt.Sprintf("%d of %d pods are ready", ready, want)}
	if v.ready {
		return v
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return verdict{failed: true, detail: refusedPods(c.Message, d.Namespace)}
		}
	}
	return v
}

// because adds why pods are not ready. One that does not become so by itself
// fails the component.
func (v verdict) because(pods []corev1.Pod, err error) verdict {
	if err != nil {
		v.detail += "; cannot look at them: " + err.Error()
		return v
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for _, pod := range pods {
		if why := stuck(&pod); why != "" {
			return verdict{failed: true, detail: fmt.Sprintf("%s; %s%s", v.detail, why, where(&pod))}
		}
	}
	return v
}

func where(pod *corev1.Pod) string {
	if pod.Spec.NodeName == "" {
		return ""
	}
	return " (pod " + pod.Name + " on " + pod.Spec.NodeName + ")"
}

// stuck says why a pod does not become ready by itself; empty where it may.
func stuck(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return "Unschedulable: " + c.Message
		}
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.State.Waiting == nil {
			continue
		}
		switch reason := c.State.Waiting.Reason; reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return fmt.Sprintf("%s: container %s, image %s: %s", reason, c.Name, c.Image, c.State.Waiting.Message)
		case "CrashLoopBackOff":
			why := fmt.Sprintf("%s: container %s", reason, c.Name)
			if last := c.LastTerminationState.Terminated; last != nil {
				why += fmt.Sprintf(" ended with exit code %d %s", last.ExitCode, last.Message)
			}
			return why
		}
	}
	return ""
}

// refusal is why pods are refused, by the newest of the events.
func refusal(events []corev1.Event, namespace string) string {
	if len(events) == 0 {
		return ""
	}
	newest := slices.MaxFunc(events, func(a, b corev1.Event) int { return seen(a).Compare(seen(b)) })
	return refusedPods(newest.Message, namespace)
}

func seen(e corev1.Event) time.Time {
	at := e.LastTimestamp.Time
	if e.EventTime.After(at) {
		at = e.EventTime.Time
	}
	return at
}

// refusedPods says what to do, where that is known, before the cluster's own
// words, which are long.
func refusedPods(message, namespace string) string {
	if strings.Contains(message, "violates PodSecurity") {
		return fmt.Sprintf("Pod Security refuses its pods, which work on the nodes themselves; `kubectl label namespace %s --overwrite pod-security.kubernetes.io/enforce=privileged` lets them in: %s", namespace, message)
	}
	return "its pods are refused: " + message
}

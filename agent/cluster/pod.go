package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// stage is how far a pod has come.
type stage int

const (
	queued    stage = iota // no node yet
	preparing              // image, code, container
	running                // the command runs
	through                // the command is over
)

// progress is what one pod says.
type progress struct {
	stage   stage
	reason  *protocol.Reason // what keeps it from getting further; nil for nothing
	started time.Time        // of its command; zero before
}

// imageReasons are the kubelet's reasons for a container waiting for its image.
var imageReasons = []string{
	"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
	"ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
}

// configReasons are those for a container that cannot be made or started.
var configReasons = []string{
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError",
}

// look reads one pod.
func look(pod *corev1.Pod) progress {
	var p progress
	main := container(pod.Status.ContainerStatuses, workload.MainContainer)
	if main != nil {
		switch {
		case main.State.Running != nil:
			p.stage, p.started = running, main.State.Running.StartedAt.Time
		case main.State.Terminated != nil:
			p.stage, p.started = through, main.State.Terminated.StartedAt.Time
		}
	}
	switch {
	case over(pod):
		p.stage = through
	case p.stage == through:
	case pod.DeletionTimestamp != nil:
		p.stage = max(p.stage, preparing)
		p.reason = protocol.NewReason(protocol.Stopping, "pod %s is being stopped%s", pod.Name, disruption(pod, ": "))
	case p.stage == running:
	case pod.Spec.NodeName == "":
		p.reason = unscheduled(pod)
	default:
		p.stage = preparing
		p.reason = waiting(pod, main)
	}
	return p
}

// unscheduled is why the scheduler has no node for the pod, in its words.
func unscheduled(pod *corev1.Pod) *protocol.Reason {
	c := podCondition(pod, corev1.PodScheduled)
	if c == nil || c.Status != corev1.ConditionFalse {
		return nil
	}
	return protocol.NewReason(protocol.Unschedulable, "%s", cmp.Or(c.Message, c.Reason))
}

// waiting is what a pod waits for on its node.
func waiting(pod *corev1.Pod, main *corev1.ContainerStatus) *protocol.Reason {
	code := container(pod.Status.InitContainerStatuses, workload.CodeContainer)
	if code != nil && code.State.Running != nil {
		return protocol.NewReason(protocol.CodeFetch, "fetching the code")
	}
	for _, c := range []*corev1.ContainerStatus{code, main} {
		if c == nil || c.State.Waiting == nil {
			continue
		}
		wait := c.State.Waiting
		words := wait.Reason
		if wait.Message != "" {
			words += ": " + wait.Message
		}
		switch {
		case slices.Contains(imageReasons, wait.Reason):
			return protocol.NewReason(protocol.ImagePull, "%s: %s", c.Image, words)
		case slices.Contains(configReasons, wait.Reason):
			return protocol.NewReason(protocol.ContainerConfig, "%s", words)
		}
	}
	return nil
}

// disruption says who takes the pod away, behind sep; empty where nobody does.
func disruption(pod *corev1.Pod, sep string) string {
	c := podCondition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue {
		return ""
	}
	return sep + strings.TrimSpace(c.Reason+" "+c.Message)
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i, c := range pod.Status.Conditions {
		if c.Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func container(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i, c := range statuses {
		if c.Name == name {
			return &statuses[i]
		}
	}
	return nil
}

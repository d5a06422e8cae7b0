package policy

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ofPod is what one pod may take of a resource at a time: the sum of its
// containers, or what one of those that run before them takes, if that is
// more. Init containers that stay count with the containers.
func (p *Policy) ofPod(pod *corev1.PodSpec, name corev1.ResourceName) (resource.Quantity, error) {
	var most, staying resource.Quantity
	for _, c := range pod.InitContainers {
		if _, limited := c.Resources.Limits[name]; !limited && name == corev1.ResourceEphemeralStorage && c.Image == p.o.LaunchImage && c.Image != "" {
			continue // the agent's own: what it writes is the pod's, and within the limit of the command's container
		}
		takes, err := ofContainer(&c, name)
		if err != nil {
			return takes, err
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			staying.Add(takes)
			takes = staying.DeepCopy()
		} else {
			takes.Add(staying)
		}
		if takes.Cmp(most) > 0 {
			most = takes
		}
	}
	for _, c := range pod.Containers {
		takes, err := ofContainer(&c, name)
		if err != nil {
			return takes, err
		}
		staying.Add(takes)
	}
	if staying.Cmp(most) > 0 {
		most = staying
	}
	if pod.Resources != nil {
		for _, of := range []corev1.ResourceList{pod.Resources.Requests, pod.Resources.Limits} {
			if takes, set := of[name]; set && takes.Cmp(most) > 0 {
				most = takes
			}
		}
	}
	return most, nil
}

// ofContainer is what a container may take. Without a limit, what every node
// has is unbounded, and what only some have is not given at all.
func ofContainer(c *corev1.Container, name corev1.ResourceName) (resource.Quantity, error) {
	takes, limited := c.Resources.Limits[name]
	switch {
	case limited:
	case name == corev1.ResourceCPU || name == corev1.ResourceMemory:
		return takes, fmt.Errorf("container %s has no limit", c.Name)
	case name == corev1.ResourceEphemeralStorage:
		return takes, fmt.Errorf("container %s has no limit; set %s in the limits of the job's instance type", c.Name, name)
	}
	if asks := c.Resources.Requests[name]; asks.Cmp(takes) > 0 {
		takes = asks
	}
	return takes.DeepCopy(), nil
}

func sorted[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

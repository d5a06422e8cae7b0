package policy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// controlPlane is what the keys of the taints begin with that keep pods off the
// nodes of the control plane.
const controlPlane = "node-role.kubernetes.io/"

// confined refuses what no policy can allow. What is dangerous where it is
// left out has to be set.
func confined(pod *corev1.PodSpec) error {
	for _, is := range []struct {
		bad  bool
		what string
	}{
		{pod.HostNetwork, "hostNetwork"},
		{pod.HostPID, "hostPID"},
		{pod.HostIPC, "hostIPC"},
		{pod.NodeName != "", "nodeName " + pod.NodeName}, // past the scheduler, and what taints keep away
		{pod.ServiceAccountName != "" && pod.ServiceAccountName != "default", "service account " + pod.ServiceAccountName},
		{pod.DeprecatedServiceAccount != "" && pod.DeprecatedServiceAccount != "default", "service account " + pod.DeprecatedServiceAccount},
		{strings.HasPrefix(pod.PriorityClassName, "system-"), "priority class " + pod.PriorityClassName}, // it drives out what the cluster lives on
		{ptr.Deref(pod.AutomountServiceAccountToken, true), "a service account token (automountServiceAccountToken is not false)"},
	} {
		if is.bad {
			return never(is.what)
		}
	}
	for _, t := range pod.Tolerations {
		switch {
		case t.Key == "":
			return never("a toleration of every taint")
		case strings.HasPrefix(t.Key, controlPlane):
			return never("a toleration of " + t.Key)
		}
	}
	for _, v := range pod.Volumes {
		if err := volume(v); err != nil {
			return never(fmt.Sprintf("volume %s: %v", v.Name, err))
		}
	}
	if s := pod.SecurityContext; s != nil {
		switch {
		case len(s.Sysctls) > 0:
			return never("sysctl " + s.Sysctls[0].Name)
		case unconfined(s.AppArmorProfile):
			return never("AppArmor profile Unconfined")
		case s.SELinuxOptions != nil:
			return never("SELinux options")
		case s.WindowsOptions != nil && ptr.Deref(s.WindowsOptions.HostProcess, false):
			return never("hostProcess")
		}
	}
	if len(pod.EphemeralContainers) > 0 {
		return never("ephemeral containers")
	}
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for _, c := range containers {
			if err := container(pod, &c); err != nil {
				return never(fmt.Sprintf("container %s: %v", c.Name, err))
			}
		}
	}
	return nil
}

func never(what string) error { return fmt.Errorf("never allowed: %s", what) }

// container refuses what reaches the node or raises privileges.
func container(pod *corev1.PodSpec, c *corev1.Container) error {
	for _, port := range c.Ports {
		if port.HostPort != 0 {
			return fmt.Errorf("hostPort %d", port.HostPort)
		}
	}
	if len(c.VolumeDevices) > 0 {
		return fmt.Errorf("block device %s", c.VolumeDevices[0].Name)
	}
	s := ptr.Deref(c.SecurityContext, corev1.SecurityContext{})
	switch {
	case ptr.Deref(s.Privileged, false):
		return errors.New("privileged")
	case ptr.Deref(s.AllowPrivilegeEscalation, true):
		return errors.New("allowPrivilegeEscalation is not false")
	case s.Capabilities != nil && len(s.Capabilities.Add) > 0:
		return fmt.Errorf("added capability %s", s.Capabilities.Add[0])
	case ptr.Deref(s.ProcMount, corev1.DefaultProcMount) != corev1.DefaultProcMount:
		return fmt.Errorf("procMount %s", *s.ProcMount)
	case unconfined(s.AppArmorProfile):
		return errors.New("AppArmor profile Unconfined")
	case s.SELinuxOptions != nil:
		return errors.New("SELinux options")
	case s.WindowsOptions != nil && ptr.Deref(s.WindowsOptions.HostProcess, false):
		return errors.New("hostProcess")
	}
	seccomp := s.SeccompProfile
	if seccomp == nil && pod.SecurityContext != nil {
		seccomp = pod.SecurityContext.SeccompProfile
	}
	if seccomp == nil || seccomp.Type != corev1.SeccompProfileTypeRuntimeDefault && seccomp.Type != corev1.SeccompProfileTypeLocalhost {
		return errors.New("seccomp profile is Unconfined or not set")
	}
	return nil
}

func unconfined(p *corev1.AppArmorProfile) bool {
	return p != nil && p.Type == corev1.AppArmorProfileTypeUnconfined
}

// volume lets pass what is the namespace's own, and nothing that Kubernetes
// may come to have.
func volume(v corev1.Volume) error {
	if p := v.Projected; p != nil {
		for _, source := range p.Sources {
			if source.Secret == nil && source.ConfigMap == nil && source.DownwardAPI == nil {
				return errors.New("projected tokens or certificates")
			}
		}
	}
	source := v.VolumeSource
	source.EmptyDir, source.Secret, source.ConfigMap, source.DownwardAPI = nil, nil, nil, nil
	source.PersistentVolumeClaim, source.Ephemeral, source.Projected = nil, nil, nil
	fields := reflect.ValueOf(source)
	for i := range fields.NumField() {
		if !fields.Field(i).IsNil() {
			return errors.New(fields.Type().Field(i).Name)
		}
	}
	return nil
}

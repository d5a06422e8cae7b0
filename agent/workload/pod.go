package workload

import (
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/protocol"
)

// Places in a pod.
const (
	codeDir   = "/trainrelay/code"
	tokenDir  = "/trainrelay/token"
	tokenFile = "token"
)

// addCode lets the pod fetch its code before the command, and run it there.
func addCode(spec *corev1.PodSpec, start *protocol.Start, o Options) {
	ref := start.Ref()
	code := corev1.VolumeMount{Name: "code", MountPath: codeDir}
	spec.InitContainers = []corev1.Container{{
		Name:  CodeContainer,
		Image: o.LaunchImage,
		Command: []string{
			"/trainrelay-launch", "fetch",
			"--url", fmt.Sprintf("%s/v1/attempts/%s/%d/code", o.GatewayURL, url.PathEscape(ref.Job), ref.Attempt),
			"--token-file", tokenDir + "/" + tokenFile,
			"--digest", start.Job.Code,
			"--dir", codeDir,
		},
		Resources:                fetching(),
		VolumeMounts:             []corev1.VolumeMount{code, {Name: "token", MountPath: tokenDir, ReadOnly: true}},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          confined(),
	}}
	spec.InitContainers[0].SecurityContext.ReadOnlyRootFilesystem = ptr.To(true)
	main := &spec.Containers[0]
	main.WorkingDir = codeDir
	main.VolumeMounts = append(main.VolumeMounts, code)
	spec.Volumes = append(spec.Volumes,
		corev1.Volume{Name: "code", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName:  Name(ref),
			DefaultMode: ptr.To(int32(0o444)), // for whichever user the image has
		}}})
}

// addShm gives the command a /dev/shm of so many bytes. What is written there
// counts as memory of the container.
func addShm(spec *corev1.PodSpec, bytes int64) error {
	size, main := resource.NewQuantity(bytes, resource.BinarySI), &spec.Containers[0]
	if limit := main.Resources.Limits.Memory(); size.Cmp(*limit) > 0 {
		return fmt.Errorf("shm_size %s is more than the memory of an instance, %s, of which it is a part", size, limit)
	}
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "shm", MountPath: "/dev/shm"})
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "shm", VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: size}}})
	return nil
}

func confined() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// fetching is what fetching code takes.
func fetching() corev1.ResourceRequirements {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
	return corev1.ResourceRequirements{Requests: list("50m", "64Mi"), Limits: list("1", "256Mi")}
}

package extension

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	settings "github.com/trainrelay/trainrelay/internal/extension"
)

// component is a part of the extension: a DaemonSet, or a Deployment, of the
// chart.
type component struct {
	name       string // of the object
	deployment bool
	what       string // for people
	found      string // its key among what was there before; empty where nothing can be
	nowhere    string // what it means that no node is to have it
	wanted     func(map[string]string) bool
}

// components are all that the chart may install, as it names them.
var components = []component{
	{name: "trainrelay-agent", what: "the agent", nowhere: "no node is to have an agent", wanted: on(settings.EnableTraining)},
	{name: "nvidia-device-plugin-daemonset", what: "NVIDIA's device plugin", found: "nvidiaDevicePlugin",
		nowhere: "no node is known to have NVIDIA hardware, so none has the plugin", wanted: on(settings.InstallNvidiaDevicePlugin)},
	{name: "csi-blob-controller", deployment: true, what: "a Blob CSI driver", found: "blobCSIDriver", wanted: on(settings.InstallBlobfuseFlexvol)},
	{name: "csi-blob-node", what: "a Blob CSI driver", found: "blobCSIDriver", nowhere: "no node is to have the Blob CSI driver", wanted: on(settings.InstallBlobfuseFlexvol)},
}

func on(key string) func(map[string]string) bool {
	return func(of map[string]string) bool { return of[key] == settings.True }
}

// maxPods bounds the pods that are looked through for a reason.
const maxPods = 500

// look asks the API server what became of a component.
func (e *Extension) look(ctx context.Context, c component) verdict {
	if c.deployment {
		d, err := e.o.Client.AppsV1().Deployments(e.o.Namespace).Get(ctx, c.name, metav1.GetOptions{})
		if err != nil {
			return unseen("Deployment "+c.name, err)
		}
		v := judgeDeployment(d)
		if v.ready || v.failed {
			return v
		}
		return v.because(e.pods(ctx, d.Spec.Selector, d.Spec.Template.Spec))
	}
	d, err := e.o.Client.AppsV1().DaemonSets(e.o.Namespace).Get(ctx, c.name, metav1.GetOptions{})
	if err != nil {
		return unseen("DaemonSet "+c.name, err)
	}
	v := judgeDaemonSet(d, c.nowhere)
	if v.ready {
		return v
	}
	if d.Status.CurrentNumberScheduled < d.Status.DesiredNumberScheduled {
		if why := e.refused(ctx, c.name); why != "" {
			return verdict{failed: true, detail: why}
		}
	}
	return v.because(e.pods(ctx, d.Spec.Selector, d.Spec.Template.Spec))
}

// unseen is a component that there is not, or that cannot be looked at.
func unseen(what string, err error) verdict {
	if apierrors.IsNotFound(err) {
		return verdict{detail: what + " is not there; apply the extension again"}
	}
	return verdict{detail: "cannot look at " + what + ": " + err.Error()}
}

// pods are those of a component that are made of its template as it is now;
// what is wrong with others passes with them.
func (e *Extension) pods(ctx context.Context, of *metav1.LabelSelector, template corev1.PodSpec) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(of)
	if err != nil {
		return nil, err
	}
	all, err := e.o.Client.CoreV1().Pods(e.o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String(), Limit: maxPods})
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, pod := range all.Items {
		if pod.DeletionTimestamp == nil && sameImages(pod.Spec, template) {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

func sameImages(a, b corev1.PodSpec) bool {
	images := func(of corev1.PodSpec) (list []string) {
		for _, c := range append(append([]corev1.Container{}, of.InitContainers...), of.Containers...) {
			list = append(list, c.Image)
		}
		return list
	}
	return fmt.Sprint(images(a)) == fmt.Sprint(images(b))
}

// refused is why the API server lets no pod of a DaemonSet be made, which only
// Events say; empty where they do not.
func (e *Extension) refused(ctx context.Context, name string) string {
	events, err := e.o.Client.CoreV1().Events(e.o.Namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.kind": "DaemonSet", "involvedObject.name": name, "reason": "FailedCreate",
	}.String(), Limit: maxPods})
	if err != nil {
		return ""
	}
	return refusal(events.Items, e.o.Namespace)
}

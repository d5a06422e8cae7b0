package apiserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/trainrelay/trainrelay/agent/extension"
	settings "github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/protocol"
)

// Names that the chart gives.
const (
	agentSet   = "trainrelay-agent"
	pluginSet  = "nvidia-device-plugin-daemonset"
	driverSet  = "csi-blob-node"
	driverMain = "csi-blob-controller"
)

// extended is an extension as it is wanted and applied in the plot, and the
// agent's look at it.
type extended struct {
	*plot
	want *protocol.Extension
	look *extension.Extension
}

// extend applies settings in the plot, as the chart would.
func (p *plot) extend(pairs ...string) *extended {
	p.Helper()
	given, err := settings.Parse(pairs)
	if err != nil {
		p.Fatal(err)
	}
	x := &extended{plot: p, want: &protocol.Extension{Name: "amlarc-compute", Revision: 7, Settings: settings.Resolve(given)}}
	text, err := yaml.Marshal(map[string]any{"settings": x.want.Settings})
	if err != nil {
		p.Fatal(err)
	}
	file := filepath.Join(p.TempDir(), "extension.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		p.Fatal(err)
	}
	x.look, err = extension.New(extension.Options{Client: p.client(), Namespace: p.home, File: file, Cluster: "onprem"})
	if err != nil {
		p.Fatal(err)
	}
	return x
}

// becomes reports whether the extension comes to be in a state, for a reason
// that has the text.
func (x *extended) becomes(state protocol.InstallState, reason string) bool {
	x.Helper()
	var last *protocol.ExtensionFound
	is := x.eventually(func() bool {
		last = x.look.Found(x.Context(), x.want)
		return last.State == state && strings.Contains(last.Reason, reason)
	})
	if !is {
		x.Logf("the extension is %+v", last)
	}
	return is
}

func (x *extended) await(state protocol.InstallState, reason string) {
	x.Helper()
	if !x.becomes(state, reason) {
		x.Fatalf("it does not become %s: %s", state, reason)
	}
}

// component makes a DaemonSet for the nodes with a label of the plot's own.
func (p *plot) component(name string, mounts bool) *appsv1.DaemonSet {
	p.Helper()
	labels := map[string]string{"app.kubernetes.io/name": name}
	pod := corev1.PodSpec{
		NodeSelector: map[string]string{"trainrelay.test/plot": p.home},
		Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:   []corev1.Container{{Name: "main", Image: "none:1"}},
	}
	if mounts {
		pod.Volumes = []corev1.Volume{{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet"}}}}
	}
	made, err := site.Client().AppsV1().DaemonSets(p.home).Create(p.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
	}}, metav1.CreateOptions{})
	if err != nil {
		p.Fatal(err)
	}
	return made
}

// bareNode makes a node with the plot's label.
func (p *plot) bareNode() {
	p.Helper()
	name := "ext-" + p.home
	_, err := site.Client().CoreV1().Nodes().Create(p.Context(),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"trainrelay.test/plot": p.home}}}, metav1.CreateOptions{})
	if err != nil {
		p.Fatal(err)
	}
	// Without room for pods none is scheduled.
	room := []byte(`{"status":{"capacity":{"pods":"10"},"allocatable":{"pods":"10"}}}`)
	if _, err := site.Client().CoreV1().Nodes().Patch(p.Context(), name, types.StrategicMergePatchType, room, metav1.PatchOptions{}, "status"); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := site.Client().CoreV1().Nodes().Delete(context.WithoutCancel(p.Context()), name, metav1.DeleteOptions{}); err != nil {
			p.Error(err)
		}
	})
}

// restrict has the plot's home enforce a profile of Pod Security, and waits
// until the API server does.
func (p *plot) restrict(profile string) {
	p.Helper()
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"` + profile + `"}}}`)
	if _, err := site.Client().CoreV1().Namespaces().Patch(p.Context(), p.home, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		p.Fatal(err)
	}
	probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none:1"}}}}
	eventually(p.T, "Pod Security enforces "+profile, func(ctx context.Context) (bool, error) {
		_, err := site.Client().CoreV1().Pods(p.home).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return (err != nil && strings.Contains(err.Error(), "violates PodSecurity")) == (profile == "restricted"), nil
	})
}

// TestExtension: the agent tells of each component what the cluster tells of
// it, with the rights that it has.
func TestExtension(t *testing.T) {
	t.Parallel()
	t.Run("nodes", func(t *testing.T) {
		t.Parallel()
		x := newPlot(t, nil).extend("enableTraining=False")
		x.await(protocol.Pending, pluginSet+": DaemonSet "+pluginSet+" is not there; apply the extension again")
		x.component(pluginSet, false)
		x.await(protocol.Installed, "")
		if c := x.look.Found(t.Context(), x.want).Components; len(c) != 1 || c[0].Detail != "no node is known to have NVIDIA hardware, so none has the plugin" {
			t.Errorf("%+v", c)
		}

		x.bareNode()
		x.await(protocol.Pending, "0 of 1 pods are ready")
		pod := x.onlyPod(pluginSet)
		report(t, pod, corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Image: "none:1",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}})
		x.await(protocol.InstallFailed, pluginSet+": 0 of 1 pods are ready; ImagePullBackOff: container main, image none:1: no such image")
		report(t, pod, corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Image: "none:1", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}})
		x.await(protocol.Installed, "")
	})

	t.Run("Pod Security", func(t *testing.T) {
		t.Parallel()
		x := newPlot(t, nil).extend("enableTraining=False")
		x.restrict("restricted")
		x.bareNode()
		x.component(pluginSet, true)
		x.await(protocol.InstallFailed, "kubectl label namespace "+x.home+" --overwrite pod-security.kubernetes.io/enforce=privileged")
		x.restrict("privileged")
		// What tries again is the cluster, in its own time.
		x.await(protocol.Pending, "0 of 1 pods are ready")
	})

	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		x := newPlot(t, nil).extend("enableTraining=False", "installNvidiaDevicePlugin=False")
		x.await(protocol.Installed, "")
		x.want.Settings = settings.Resolve(map[string]string{settings.EnableTraining: settings.True})
		x.await(protocol.Pending, "enableTraining is False and not True yet")
	})
}

// onlyPod is the pod of a component that the cluster has made.
func (p *plot) onlyPod(name string) (pod corev1.Pod) {
	p.Helper()
	eventually(p.T, "pod of "+name, func(ctx context.Context) (bool, error) {
		list, err := site.Client().CoreV1().Pods(p.home).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + name})
		if err != nil || len(list.Items) != 1 {
			return false, err
		}
		pod = list.Items[0]
		return true, nil
	})
	return pod
}

// seesExtension: every component is looked at.
func seesExtension(p *plot, _ bool) bool {
	x := p.extend("enableTraining=True")
	for _, name := range []string{agentSet, pluginSet, driverSet} {
		p.component(name, false)
	}
	labels := map[string]string{"app.kubernetes.io/name": driverMain}
	_, err := site.Client().AppsV1().Deployments(p.home).Create(p.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: driverMain}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none:1"}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		p.Fatal(err)
	}
	return x.becomes(protocol.Installed, "")
}

// tellsRefusedComponent: why a DaemonSet has no pods is in Events only.
func tellsRefusedComponent(p *plot, _ bool) bool {
	x := p.extend("enableTraining=False")
	p.restrict("restricted")
	p.bareNode()
	p.component(pluginSet, true)
	return x.becomes(protocol.InstallFailed, "Pod Security refuses its pods")
}

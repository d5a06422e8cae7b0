package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	extensionName = "amlarc-compute"
	// standIns is the mirror whose images are the pause program under the names
	// of the components'. The real ones cannot be had here.
	standIns  = "mirror.trainrelay.test"
	pluginSet = "nvidia-device-plugin-daemonset"
	// installPatience is for helm, the kubelet's minute, and pods.
	installPatience = "6m"
)

// k8sExtension runs a command of the extension, with az's flags.
func k8sExtension(t *testing.T, verb string, more ...string) (stdout, stderr string, code int) {
	t.Helper()
	out := site(t).CLI(context.WithoutCancel(t.Context()), append([]string{"k8s-extension", verb, "--name", extensionName,
		"--cluster-type", "connectedClusters", "--cluster-name", site(t).ClusterName, "--resource-group", "lab"}, more...)...)
	return out.Stdout, out.Stderr, out.Code
}

// must is k8sExtension, where nothing may fail.
func must(t *testing.T, verb string, more ...string) string {
	t.Helper()
	stdout, stderr, code := k8sExtension(t, verb, more...)
	if code != 0 {
		t.Fatalf("k8s-extension %s %s: exit code %d: %s", verb, strings.Join(more, " "), code, stderr)
	}
	return stdout
}

func showExtension(t *testing.T) (shown v1.Extension) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, "show")), &shown); err != nil {
		t.Fatal(err)
	}
	return shown
}

// awaitExtension waits until the extension is in a state, for a reason that has
// the text.
func awaitExtension(t *testing.T, state protocol.InstallState, reason string) v1.Extension {
	t.Helper()
	for deadline := time.Now().Add(6 * time.Minute); ; time.Sleep(time.Second) {
		shown := showExtension(t)
		if shown.InstallState == state && strings.Contains(shown.Reason, reason) {
			return shown
		}
		if time.Now().After(deadline) {
			t.Fatalf("the extension is %s, %s; want %s, %s", shown.InstallState, shown.Reason, state, reason)
		}
	}
}

// componentOf is what is said of a component.
func componentOf(t *testing.T, shown v1.Extension, name string) v1.ExtensionStatus {
	t.Helper()
	for _, status := range shown.Statuses {
		if status.Code == name {
			return status
		}
	}
	t.Fatalf("nothing is said of %s: %+v", name, shown.Statuses)
	return v1.ExtensionStatus{}
}

// enforce has the agent's namespace enforce a profile of Pod Security.
func enforce(t *testing.T, profile string) {
	t.Helper()
	if _, err := site(t).Kubectl(context.WithoutCancel(t.Context()), nil, "label", "namespace", agentSpace, "--overwrite", "pod-security.kubernetes.io/enforce="+profile); err != nil {
		t.Fatal(err)
	}
}

// TestExtensionLifecycle: what az k8s-extension does, on a cluster that the
// cloud has no rights in: an admin applies it, the agent sees it.
func TestExtensionLifecycle(t *testing.T) {
	ctx := t.Context()
	nodes, err := site(t).Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	node := nodes.Items[0].Name
	site(t).StandIn(t, standIns+"/nvidia/k8s-device-plugin:v0.17.4",
		standIns+"/oss/v2/kubernetes-csi/blob-csi:v1.27.9", standIns+"/oss/v2/kubernetes-csi/csi-provisioner:v6.3.0",
		standIns+"/oss/v2/kubernetes-csi/livenessprobe:v2.19.0", standIns+"/oss/v2/kubernetes-csi/csi-node-driver-registrar:v2.17.0")
	t.Cleanup(func() { // for the other tests
		_, _, _ = k8sExtension(t, "delete", "--yes", "--apply")
		enforce(t, "restricted")
		_, _ = site(t).Kubectl(context.WithoutCancel(ctx), nil, "label", "node", node, "nvidia.com/gpu.present-")
	})

	// It is wanted, and Pending until an admin of the cluster applies it.
	line := must(t, "create", "--extension-type", "Microsoft.AzureML.Kubernetes", "--scope", "cluster",
		"--configuration-settings", "enableTraining=True", "installBlobfuseFlexvol=False", "imageMirror="+standIns)
	if !strings.HasPrefix(line, "helm upgrade --install trainrelay-agent ") {
		t.Errorf("create prints %q", line)
	}
	const apply = "trainrelay k8s-extension update --name " + extensionName + " --cluster-name onprem-1 --apply"
	shown := awaitExtension(t, protocol.Pending, apply)
	if shown.ExtensionType != "Microsoft.AzureML.Kubernetes" || shown.Effective["installNvidiaDevicePlugin"] != "True" {
		t.Errorf("%+v", shown)
	}
	awaitExtension(t, protocol.Pending, "it is not applied in the cluster") // the agent's own words

	// No node has such hardware: the plugin is nowhere, and that is in order.
	must(t, "update", "--apply", "--timeout", installPatience)
	if got := componentOf(t, showExtension(t), pluginSet); !strings.Contains(got.Message, "no node is known to have NVIDIA hardware") {
		t.Errorf("%+v", got)
	}
	checkRunning(t)

	// One has, and its pod is not let in before the namespace is relabelled.
	if _, err := site(t).Kubectl(ctx, nil, "label", "node", node, "nvidia.com/gpu.present=true"); err != nil {
		t.Fatal(err)
	}
	failed := awaitExtension(t, protocol.InstallFailed, pluginSet+": Pod Security refuses its pods")
	if !strings.Contains(failed.Reason, "kubectl label namespace azureml --overwrite pod-security.kubernetes.io/enforce=privileged") || failed.ErrorInfo == nil {
		t.Errorf("%+v", failed)
	}
	enforce(t, "privileged")
	installed := awaitExtension(t, protocol.Installed, "")
	if got := componentOf(t, installed, pluginSet); got.Message != "1 of 1 pods are ready" {
		t.Errorf("%+v", got)
	}
	checkRunning(t)

	// Off, the compute takes no jobs.
	must(t, "update", "--configuration-settings", "enableTraining=False", "--apply", "--timeout", installPatience)
	out := site(t).CLI(ctx, "job", "create", "-f", jobFile(t, "command: 'true'"), "--name", unique("untrained"))
	if out.Code == 0 || !strings.Contains(out.Stderr, "the setting enableTraining of its extension "+extensionName+" is False") {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}

	// An image that cannot be pulled.
	_, stderr, code := k8sExtension(t, "update", "--configuration-settings", "imageMirror=nowhere.trainrelay.test", "enableTraining=True", "--apply", "--timeout", installPatience)
	if code != 1 || !strings.Contains(stderr, "has Failed: "+pluginSet+": ") || !strings.Contains(stderr, "nowhere.trainrelay.test/nvidia/k8s-device-plugin") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	must(t, "update", "--configuration-settings", "imageMirror="+standIns, "--apply", "--timeout", installPatience)

	t.Run("Blob CSI driver", testBlobDriver)
	t.Run("another's plugin", testForeignPlugin)

	// Away, and the cluster trains as it did.
	must(t, "delete", "--yes", "--apply")
	if _, _, code := k8sExtension(t, "show"); code != exitNotFound {
		t.Errorf("a deleted extension: exit code %d", code)
	}
	if _, err := site(t).Client.AppsV1().DaemonSets(agentSpace).Get(ctx, pluginSet, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the plugin is left: %v", err)
	}
	name := unique("after-extension")
	submit(t, name, "command: 'true'")
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Completed })
}

// testBlobDriver: the driver's objects are taken by the cluster and judged; its
// images are stand-ins, which only run.
func testBlobDriver(t *testing.T) {
	must(t, "update", "--configuration-settings", "installBlobfuseFlexvol=True", "installBlobfuseSysctl=False", "--apply", "--timeout", installPatience)
	shown := showExtension(t)
	for _, name := range []string{"csi-blob-controller", "csi-blob-node"} {
		if got := componentOf(t, shown, name); got.DisplayStatus != "Ready" {
			t.Errorf("%+v", got)
		}
	}
	if _, err := site(t).Client.StorageV1().CSIDrivers().Get(t.Context(), "blob.csi.azure.com", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	must(t, "update", "--configuration-settings", "installBlobfuseFlexvol=False", "--apply", "--timeout", installPatience)
	if _, err := site(t).Client.StorageV1().CSIDrivers().Get(t.Context(), "blob.csi.azure.com", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the driver is left: %v", err)
	}
}

// testForeignPlugin: one that is there already is found under whatever name,
// left alone, and that is said.
func testForeignPlugin(t *testing.T) {
	ctx := t.Context()
	labels := map[string]string{"app": "gpu"}
	daemons := site(t).Client.AppsV1().DaemonSets("default")
	foreign, err := daemons.Create(ctx, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "somebody-elses"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "main", Image: standIns + "/nvidia/k8s-device-plugin:v0.17.4", ImagePullPolicy: corev1.PullIfNotPresent}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := daemons.Delete(context.WithoutCancel(ctx), foreign.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	must(t, "update", "--configuration-settings", "logAnalyticsWS=True", "--apply", "--timeout", installPatience)
	shown := awaitExtension(t, protocol.Installed, "")
	if got := componentOf(t, shown, pluginSet); got.Message != "NVIDIA's device plugin was there already, and is left alone: default/somebody-elses" {
		t.Errorf("%+v", got)
	}
	if _, err := site(t).Client.AppsV1().DaemonSets(agentSpace).Get(ctx, pluginSet, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("there are two plugins: %v", err)
	}
	now, err := daemons.Get(ctx, foreign.Name, metav1.GetOptions{})
	if err != nil || now.UID != foreign.UID || now.Generation != foreign.Generation {
		t.Errorf("it was not left alone: %+v, %v", now, err)
	}
}

// checkRunning looks as the document says: every pod of azureml is Running.
func checkRunning(t *testing.T) {
	t.Helper()
	out, err := site(t).Kubectl(t.Context(), nil, "get", "pods", "-n", agentSpace, "--no-headers")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) < 3 || fields[2] != "Running" {
			t.Errorf("not Running: %s", line)
		}
	}
}

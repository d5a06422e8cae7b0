package chart

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/trainrelay/trainrelay/internal/extension"
)

// applied is what the agent is told of the extension in these objects.
type applied struct {
	Settings map[string]string `json:"settings"`
	Found    map[string]string `json:"found"`
}

func appliedIn(t *testing.T, all []runtime.Object) *applied {
	t.Helper()
	config, ok := named[*corev1.ConfigMap](all, "trainrelay-agent-extension")
	if !ok {
		return nil
	}
	return parseApplied(t, config)
}

func parseApplied(t *testing.T, config *corev1.ConfigMap) *applied {
	t.Helper()
	a := new(applied)
	if err := yaml.UnmarshalStrict([]byte(config.Data["extension.yaml"]), a); err != nil {
		t.Fatalf("%v in\n%s", err, config.Data["extension.yaml"])
	}
	return a
}

// components names what is installed on the nodes.
func components(all []runtime.Object) (names []string) {
	for _, object := range all {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			names = append(names, o.Name)
		case *appsv1.Deployment:
			names = append(names, o.Name)
		case *storagev1.CSIDriver:
			names = append(names, o.Name)
		}
	}
	return names
}

// TestExtensionDefaults: a setting that is not given is to the chart what it is
// to the relay, so that what an admin wrote by hand is what was asked for.
func TestExtensionDefaults(t *testing.T) {
	for _, set := range []string{
		"extension.enableTraining=true", "extension.enableTraining=false",
		"extension.enableTraining=true,extension.installNvidiaDevicePlugin=false,extension.installBlobfuseFlexvol=false",
		"extension.installBlobfuseSysctl=true,extension.logAnalyticsWS=true,extension.volumePluginDir=/opt/plugins",
		`extension.imageMirror=registry.example:5000/mirror,extension.nodeSelector={pool=gpu,kubernetes.io/arch=amd64,empty=}`,
	} {
		given := map[string]string{}
		for key, value := range values(t, set)["extension"].(map[string]any) {
			switch value := value.(type) {
			case bool:
				given[key] = map[bool]string{true: extension.True, false: extension.False}[value]
			case string:
				given[key] = value
			case []any:
				for _, pair := range value {
					label, of, _ := strings.Cut(pair.(string), "=")
					given[extension.NodeSelector+label] = of
				}
			}
		}
		given, err := extension.Check(given)
		if err != nil {
			t.Fatal(err)
		}
		got := appliedIn(t, objects(t, minimal, set))
		if diff := cmp.Diff(extension.Resolve(given), got.Settings); diff != "" || len(got.Found) > 0 {
			t.Errorf("--set %s (-relay +chart):\n%s", set, diff)
		}
	}
	if got := appliedIn(t, objects(t, minimal)); got != nil {
		t.Errorf("without the extension there is one: %v", got)
	}
}

// TestComponents: each setting installs its own, and nothing else.
func TestComponents(t *testing.T) {
	const agent, plugin = "trainrelay-agent", "nvidia-device-plugin-daemonset"
	blob := []string{"blob.csi.azure.com", "csi-blob-controller", "csi-blob-node"}
	for set, want := range map[string][]string{
		"":                               {agent},
		"extension.enableTraining=true":  append([]string{agent, plugin}, blob...),
		"extension.enableTraining=false": {agent, plugin},
		"extension.enableTraining=true,extension.installNvidiaDevicePlugin=false":                                        append([]string{agent}, blob...),
		"extension.enableTraining=true,extension.installBlobfuseFlexvol=false":                                           {agent, plugin},
		"extension.installNvidiaDevicePlugin=false,extension.installBlobfuseFlexvol=true":                                append([]string{agent}, blob...),
		"extension.enableTraining=true,extension.installNvidiaDevicePlugin=false,extension.installBlobfuseFlexvol=false": {agent},
	} {
		got, wanted := map[string]bool{}, map[string]bool{}
		for _, name := range components(objects(t, minimal, set)) {
			got[name] = true
		}
		for _, name := range want {
			wanted[name] = true
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("--set %s installs %v, want %v", set, got, wanted)
		}
	}
	for _, set := range []string{"extension.enableTraining=True", "extension.enableTraning=true", "extension.imageMirror=https://x", "extension.nodeSelector={pool}", "extension.volumePluginDir=x"} {
		if _, err := Render(values(t, minimal, set)); (err == nil) != (set == "extension.enableTraining=True") {
			t.Errorf("--set %s: %v", set, err) // helm itself makes a switch of True
		}
	}
}

// pods are the templates of the extension's pods, by name.
func pods(all []runtime.Object) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	for _, object := range all {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			found[o.Name] = o.Spec.Template
		case *appsv1.Deployment:
			found[o.Name] = o.Spec.Template
		}
	}
	delete(found, "trainrelay-agent")
	return found
}

// TestImagesAreChosen: every image is pinned, comes from the mirror where there
// is one, and pods go to the nodes that are named.
func TestImagesAreChosen(t *testing.T) {
	for name, pod := range pods(objects(t, minimal, "extension.enableTraining=true,extension.imageMirror=registry.example/mirror,extension.nodeSelector={pool=gpu},imagePullSecrets[0].name=registry")) {
		for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
			image := container.Image
			if !strings.HasPrefix(image, "registry.example/mirror/") || !strings.Contains(image, ":v") {
				t.Errorf("%s has the image %s", name, image)
			}
		}
		if diff := cmp.Diff(map[string]string{"kubernetes.io/os": "linux", "pool": "gpu"}, pod.Spec.NodeSelector); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if len(pod.Spec.ImagePullSecrets) != 1 {
			t.Errorf("%s pulls without a Secret", name)
		}
	}
	for name, pod := range pods(objects(t, minimal, "extension.enableTraining=true")) {
		for _, container := range pod.Spec.Containers {
			if !strings.HasPrefix(container.Image, "nvcr.io/nvidia/") && !strings.HasPrefix(container.Image, "mcr.microsoft.com/oss/v2/kubernetes-csi/") {
				t.Errorf("%s has the image %s", name, container.Image)
			}
		}
	}
}

// TestNvidiaNodes: the plugin is for nodes with such hardware, by each of the
// labels that say so, and no privileged container.
func TestNvidiaNodes(t *testing.T) {
	pod := pods(objects(t, minimal, "extension.enableTraining=true"))["nvidia-device-plugin-daemonset"].Spec
	var keys []string
	for _, term := range pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(term.MatchExpressions) != 1 {
			t.Errorf("%v: labels of one term would all be needed", term)
		}
		keys = append(keys, term.MatchExpressions[0].Key)
	}
	want := []string{"feature.node.kubernetes.io/pci-10de.present", "feature.node.kubernetes.io/cpu-model.vendor_id", "nvidia.com/gpu.present"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	security := pod.Containers[0].SecurityContext
	if security.Privileged != nil || *security.AllowPrivilegeEscalation || *pod.AutomountServiceAccountToken {
		t.Errorf("%+v", security)
	}
}

// TestBlobfuse: with installBlobfuseSysctl the driver installs blobfuse on the
// nodes, and without it touches nothing of theirs but the kubelet's folder.
func TestBlobfuse(t *testing.T) {
	with := pods(objects(t, minimal, "extension.enableTraining=true"))["csi-blob-node"].Spec
	without := pods(objects(t, minimal, "extension.enableTraining=true,extension.installBlobfuseSysctl=false"))["csi-blob-node"].Spec
	if len(with.InitContainers) != 1 || !with.HostPID || len(without.InitContainers) != 0 || without.HostPID {
		t.Errorf("with %+v, without %+v", with.InitContainers, without.InitContainers)
	}
	for _, volume := range without.Volumes {
		if path := volume.HostPath.Path; !strings.HasPrefix(path, "/var/lib/kubelet") && path != "/mnt" {
			t.Errorf("without it the node's %s is mounted", path)
		}
	}
}

// TestExtensionProfile: the namespace that the chart makes lets the components
// in, and is restricted without them.
func TestExtensionProfile(t *testing.T) {
	for set, want := range map[string]psa.Level{
		"extension.enableTraining=true":                                            psa.LevelPrivileged,
		"extension.enableTraining=true,extension.installBlobfuseFlexvol=false":     psa.LevelPrivileged,
		"extension.enableTraining=false,extension.installNvidiaDevicePlugin=false": psa.LevelRestricted,
	} {
		namespace := find[*corev1.Namespace](t, objects(t, minimal, "namespace.create=true", set))
		if got := namespace.Labels[psa.EnforceLevelLabel]; got != string(want) {
			t.Errorf("--set %s: it enforces %q, want %q", set, got, want)
		}
	}
}

// TestExtensionHelm: on a real API server, components that are there already,
// under whatever name, are found, left alone and named; what is switched off or
// deleted goes; nothing of an earlier setting stays.
func TestExtensionHelm(t *testing.T) {
	ctx := t.Context()
	server := startServer(t, "train")
	client := server.Client()
	upgrade := func(more ...string) *applied {
		t.Helper()
		runHelm(t, server, append([]string{"upgrade", "--install", "trainrelay-agent", "../../deploy/charts/trainrelay-agent", "--namespace", Namespace,
			"--create-namespace", "--reset-then-reuse-values", "--set", minimal}, more...)...)
		config, err := client.CoreV1().ConfigMaps(Namespace).Get(ctx, "trainrelay-agent-extension", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return parseApplied(t, config)
	}
	installed := func() string {
		t.Helper()
		daemons, err := client.AppsV1().DaemonSets(Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		drivers, err := client.StorageV1().CSIDrivers().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range daemons.Items {
			names = append(names, d.Name)
		}
		for _, d := range drivers.Items {
			names = append(names, d.Name)
		}
		return strings.Join(names, " ")
	}
	expect := func(when, want string) {
		t.Helper()
		if got := installed(); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	upgrade()
	expect("without the extension", "trainrelay-agent")
	all := upgrade("--set", "extension.enableTraining=true,extension.nodeSelector={pool=gpu}")
	if len(all.Found) > 0 || all.Settings["nodeSelector.pool"] != "gpu" {
		t.Errorf("%+v", all)
	}
	expect("first", "csi-blob-node nvidia-device-plugin-daemonset trainrelay-agent blob.csi.azure.com")

	// Its own are not taken for others', at an upgrade.
	if again := upgrade("--set", "extension.nodeSelector={pool=other}"); len(again.Found) > 0 || again.Settings["nodeSelector.pool"] != "other" {
		t.Errorf("%+v", again)
	}
	expect("again", "csi-blob-node nvidia-device-plugin-daemonset trainrelay-agent blob.csi.azure.com")
	if off := upgrade("--set", "extension.enableTraining=false,extension.installNvidiaDevicePlugin=false"); off.Settings["installBlobfuseFlexvol"] != "False" {
		t.Errorf("%+v", off)
	}
	expect("switched off", "trainrelay-agent")

	foreign := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "whatever", Namespace: "train"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "first", Image: "busybox"}, {Name: "plugin", Image: "registry.example/mirror/k8s-device-plugin@sha256:" + strings.Repeat("0", 64)}}}},
	}}
	amd := foreign.DeepCopy()
	amd.Name, amd.Spec.Template.Spec.Containers[1].Image = "amd", "docker.io/rocm/k8s-device-plugin:1"
	for _, daemon := range []*appsv1.DaemonSet{amd, foreign} {
		if _, err := client.AppsV1().DaemonSets("train").Create(ctx, daemon, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "blob.csi.azure.com"}}
	if _, err := client.StorageV1().CSIDrivers().Create(ctx, driver, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	there := upgrade("--set", "extension.enableTraining=true,extension.installNvidiaDevicePlugin=true")
	if diff := cmp.Diff(map[string]string{"nvidiaDevicePlugin": "train/whatever", "blobCSIDriver": "blob.csi.azure.com"}, there.Found); diff != "" {
		t.Error(diff)
	}
	expect("others are there", "trainrelay-agent blob.csi.azure.com")

	// What `k8s-extension delete` prints.
	file := t.TempDir() + "/none.yaml"
	writeFile(t, file, "extension: null\n")
	if gone := upgrade("--values", file); gone != nil {
		t.Errorf("deleted, and still applied: %+v", gone)
	}
	expect("deleted", "trainrelay-agent blob.csi.azure.com")
	if again := upgrade("--set", "extension.enableTraining=true"); len(again.Settings) != 6 {
		t.Errorf("settings of before are back: %v", again.Settings)
	}
	runHelm(t, server, "uninstall", "trainrelay-agent", "--namespace", Namespace, "--wait")
	expect("uninstalled", "blob.csi.azure.com")
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

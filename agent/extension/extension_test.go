package extension

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	settings "github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/protocol"
)

// nowhere is an API server that does not answer.
func nowhere(t *testing.T) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestUnapplied: what is not in the file as it is wanted is Pending, with the
// command that applies it.
func TestUnapplied(t *testing.T) {
	want := &protocol.Extension{Name: "amlarc-compute", Revision: 7, Settings: map[string]string{settings.InstallNvidiaDevicePlugin: settings.True, "volumePluginDir": "/a"}}
	const foreign = "settings: {installNvidiaDevicePlugin: \"True\", volumePluginDir: /a}\nfound: {nvidiaDevicePlugin: kube-system/plugin}\n"
	for name, tc := range map[string]struct {
		text   string
		state  protocol.InstallState
		reason string
	}{
		"no file":        {"", protocol.Pending, "it is not applied in the cluster; to apply it, where helm reaches the cluster: trainrelay k8s-extension update --name amlarc-compute --cluster-name onprem-1 --apply"},
		"other settings": {"settings: {installNvidiaDevicePlugin: \"False\", volumePluginDir: /a}", protocol.Pending, "installNvidiaDevicePlugin is False and not True yet"},
		"no YAML":        {"settings: [", protocol.Pending, "what is applied cannot be read"},
		"too large":      {strings.Repeat("#", maxFile+1), protocol.Pending, "has more than"},
		"another's":      {foreign, protocol.Installed, ""},
		"no API server":  {strings.Replace(foreign, "nvidiaDevicePlugin: kube", "x: kube", 1), protocol.Pending, "waiting for nvidia-device-plugin-daemonset: cannot look at DaemonSet nvidia-device-plugin-daemonset: "},
	} {
		file := filepath.Join(t.TempDir(), "extension.yaml")
		if tc.text != "" {
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e, err := New(Options{Client: nowhere(t), Namespace: "azureml", File: file, Cluster: "onprem-1"})
		if err != nil {
			t.Fatal(err)
		}
		got := e.Found(t.Context(), want)
		if got.Revision != 7 || got.State != tc.state || !strings.Contains(got.Reason, tc.reason) || (got.Reason == "") != (tc.reason == "") {
			t.Errorf("%s: %+v", name, got)
		}
		if name == "another's" && (len(got.Components) != 1 || got.Components[0].Detail != "NVIDIA's device plugin was there already, and is left alone: kube-system/plugin") {
			t.Errorf("%+v", got.Components)
		}
		if e.Found(t.Context(), nil) != nil {
			t.Error("something is found where nothing is wanted")
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("it works without options")
	}
}

func TestConclude(t *testing.T) {
	ready, waits, failed := judged{"a", verdict{ready: true}}, judged{"b", verdict{detail: "0 of 1"}}, judged{"c", verdict{failed: true, detail: "no\nimage"}}
	for name, tc := range map[string]struct {
		found  []judged
		state  protocol.InstallState
		reason string
	}{
		"nothing is on": {nil, protocol.Installed, ""},
		"ready":         {[]judged{ready, ready}, protocol.Installed, ""},
		"one waits":     {[]judged{ready, waits}, protocol.Pending, "waiting for b: 0 of 1"},
		"one failed":    {[]judged{waits, failed, ready}, protocol.InstallFailed, "c: no image"},
	} {
		got := conclude(1, tc.found)
		if got.State != tc.state || got.Reason != tc.reason || len(got.Components) != len(tc.found) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// What is said keeps to the protocol's bounds.
	long := judged{"c", verdict{failed: true, detail: strings.Repeat("ä", 5000)}}
	got := conclude(1, []judged{long, long, long, long, long})
	if len(got.Reason) > protocol.MaxReason+4 || len(got.Components[0].Detail) > protocol.MaxCheckText+4 {
		t.Errorf("%d and %d bytes", len(got.Reason), len(got.Components[0].Detail))
	}
}

func TestJudgeDaemonSet(t *testing.T) {
	for name, tc := range map[string]struct {
		generation int64
		status     appsv1.DaemonSetStatus
		want       verdict
	}{
		"not looked at": {2, appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberReady: 1}, verdict{detail: "the cluster has not looked at it yet"}},
		"nowhere":       {1, appsv1.DaemonSetStatus{ObservedGeneration: 1}, verdict{ready: true, detail: "no node"}},
		"all":           {1, appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberReady: 3}, verdict{ready: true, detail: "3 of 3 pods are ready"}},
		"some":          {1, appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberReady: 2}, verdict{detail: "2 of 3 pods are ready"}},
		"old ones":      {1, appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 1, NumberReady: 3}, verdict{detail: "1 of 3 pods are ready"}},
	} {
		d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Generation: tc.generation}, Status: tc.status}
		if got := judgeDaemonSet(d, "no node"); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestJudgeDeployment(t *testing.T) {
	refused := []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: `pods "x" is forbidden: exceeded quota`}}
	for name, tc := range map[string]struct {
		status appsv1.DeploymentStatus
		want   verdict
	}{
		"new":     {appsv1.DeploymentStatus{ObservedGeneration: 1}, verdict{detail: "0 of 1 pods are ready"}},
		"ready":   {appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, verdict{ready: true, detail: "1 of 1 pods are ready"}},
		"old one": {appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, AvailableReplicas: 1}, verdict{detail: "0 of 1 pods are ready"}},
		"unseen":  {appsv1.DeploymentStatus{}, verdict{detail: "the cluster has not looked at it yet"}},
		"refused": {appsv1.DeploymentStatus{ObservedGeneration: 1, Conditions: refused}, verdict{failed: true, detail: `its pods are refused: pods "x" is forbidden: exceeded quota`}},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 1}, Status: tc.status}
		if got := judgeDeployment(d); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// TestStuck: a pod that only waits fails nothing, one that cannot go on does,
// with the cluster's words.
func TestStuck(t *testing.T) {
	waiting := func(reason, message string) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Image: "image:1",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}}
	}
	crash := waiting("CrashLoopBackOff", "back-off")
	crash.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Message: "no driver"}
	unschedulable := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available"}}}
	for name, tc := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"starting":      {waiting("ContainerCreating", ""), ""},
		"image":         {waiting("ImagePullBackOff", "no such host"), "1 of 2; ImagePullBackOff: container main, image image:1: no such host (pod p on node1)"},
		"crash":         {crash, "1 of 2; CrashLoopBackOff: container main ended with exit code 3 no driver (pod p on node1)"},
		"unschedulable": {unschedulable, "1 of 2; Unschedulable: 0/1 nodes are available (pod p on node1)"},
	} {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: "node1"}, Status: tc.status}
		got := verdict{detail: "1 of 2"}.because([]corev1.Pod{pod}, nil)
		want := verdict{detail: "1 of 2"}
		if tc.want != "" {
			want = verdict{failed: true, detail: tc.want}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := (verdict{detail: "0 of 1"}).because(nil, errors.New("forbidden")); got.failed || got.detail != "0 of 1; cannot look at them: forbidden" {
		t.Errorf("%+v", got)
	}
}

// TestRefusal: the newest event counts, and what to do about Pod Security comes
// before its words.
func TestRefusal(t *testing.T) {
	now := time.Now()
	old := corev1.Event{Message: "quota", LastTimestamp: metav1.NewTime(now.Add(-time.Hour))}
	fresh := corev1.Event{Message: `Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes`, EventTime: metav1.NewMicroTime(now)}
	got := refusal([]corev1.Event{fresh, old}, "azureml")
	if !strings.Contains(got, "`kubectl label namespace azureml --overwrite pod-security.kubernetes.io/enforce=privileged` lets them in: Error creating") {
		t.Error(got)
	}
	if got := refusal([]corev1.Event{old}, "azureml"); got != "its pods are refused: quota" {
		t.Error(got)
	}
	if got := refusal(nil, "azureml"); got != "" {
		t.Error(got)
	}
}

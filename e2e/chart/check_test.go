package chart

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// checkPod is the pod of helm test.
func checkPod(t *testing.T, sets ...string) *corev1.Pod {
	t.Helper()
	files, err := render(values(t, sets...))
	if err != nil {
		t.Fatal(err)
	}
	pod := new(corev1.Pod)
	if err := yaml.UnmarshalStrict([]byte(files["trainrelay-agent/templates/tests/check.yaml"]), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// TestCheckPod: helm test checks with all that the agent has, is taken for an
// agent by nobody, and leaves nothing behind.
func TestCheckPod(t *testing.T) {
	sets := []string{minimal, "proxy.https=http://proxy:3128,proxy.noProxy=10.0.0.0/8,relay.caBundle=-----BEGIN CERTIFICATE-----,imagePullSecrets[0].name=registry,podLabels.team=ml"}
	pod, daemon := checkPod(t, sets...), find[*appsv1.DaemonSet](t, objects(t, sets...))
	agent := daemon.Spec.Template.Spec
	check, run := pod.Spec.Containers[0], agent.Containers[0]
	if diff := cmp.Diff([]string{"check"}, check.Args); diff != "" {
		t.Error(diff)
	}
	// What they differ in, and nothing else.
	check.Name, check.Args = run.Name, run.Args
	check.Ports, check.LivenessProbe, check.ReadinessProbe = run.Ports, run.LivenessProbe, run.ReadinessProbe
	if diff := cmp.Diff(run, check); diff != "" {
		t.Errorf("the container is not the agent's (-agent +check):\n%s", diff)
	}
	pod.Spec.Containers, pod.Spec.RestartPolicy = agent.Containers, agent.RestartPolicy
	if diff := cmp.Diff(agent, pod.Spec); diff != "" {
		t.Errorf("the pod is not the agent's (-agent +check):\n%s", diff)
	}
	if labels.SelectorFromSet(daemon.Spec.Selector.MatchLabels).Matches(labels.Set(pod.Labels)) {
		t.Errorf("an agent's selector finds it: %v", pod.Labels)
	}
	if got := pod.Annotations["helm.sh/hook-delete-policy"]; got != "before-hook-creation,hook-succeeded,hook-failed" {
		t.Errorf("it is left behind: %q", got)
	}
}

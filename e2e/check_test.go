package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestSelfCheck: in the running agent, as a helm test, and at the relay, the
// check says that all is well, through the proxy; with the proxy gone it says
// that, and what to do.
func TestSelfCheck(t *testing.T) {
	exec := func() (string, error) {
		return site(t).Kubectl(t.Context(), nil, "exec", "--namespace", agentSpace, "daemonset/trainrelay-agent", "--", "/trainrelay-agent", "check", "-o", "json")
	}
	out, err := exec()
	var found protocol.Check
	if bad := json.Unmarshal([]byte(out), &found); bad != nil {
		t.Fatalf("%v, %v: %s", bad, err, out)
	}
	for _, r := range found.Results {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
	if err != nil || len(found.Results) != 13 {
		t.Errorf("%d checks, %v", len(found.Results), err)
	}

	helmTest := func() (string, error) {
		return site(t).Helm(t.Context(), "test", "trainrelay-agent", "--namespace", agentSpace, "--timeout", "2m")
	}
	if tested, err := helmTest(); err != nil || !strings.Contains(tested, "Succeeded") {
		t.Errorf("%v\n%s", err, tested)
	}

	var cluster v1.Cluster
	shown := site(t).CLI(t.Context(), "cluster", "show", "--name", site(t).ClusterName, "-o", "json")
	if err := json.Unmarshal([]byte(shown.Stdout), &cluster); err != nil || cluster.Check == nil || len(cluster.Check.Results) != len(found.Results) {
		t.Errorf("%v, the relay has %+v", err, cluster.Check)
	}

	site(t).StopProxy(t)
	out, err = exec()
	found = protocol.Check{}
	_, failed := helmTest()
	site(t).StartProxy(t)
	if bad := json.Unmarshal([]byte(out), &found); bad != nil || err == nil {
		t.Fatalf("%v, %v: %s", bad, err, out)
	}
	proxy := slices.IndexFunc(found.Results, func(r protocol.CheckResult) bool { return r.Name == "proxy" })
	if proxy < 0 {
		t.Fatalf("without a proxy: %+v", found.Results)
	}
	if r := found.Results[proxy]; r.OK || r.Skipped || !strings.Contains(r.Fix, "is the proxy running") {
		t.Errorf("without a proxy: %+v", r)
	}
	if failed == nil || !strings.Contains(failed.Error(), "FAIL  proxy") || !strings.Contains(failed.Error(), "fix: nothing listens") {
		t.Errorf("helm test does not say what is wrong: %v", failed)
	}
	left, err := site(t).Client.CoreV1().Pods(agentSpace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=trainrelay-agent-check"})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("helm test leaves %d pods behind, %v", len(left.Items), err)
	}
	waitForSync(t)
}

// TestConfined: the agent's process, as the kernel has it, is nobody who can do
// anything.
func TestConfined(t *testing.T) {
	pods, err := site(t).Client.CoreV1().Pods(agentSpace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=trainrelay-agent"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatal(len(pods.Items), err)
	}
	for _, pod := range pods.Items {
		_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
		process := processOf(t, id)
		status, err := os.ReadFile(filepath.Join(process, "status"))
		if err != nil {
			t.Fatal(err)
		}
		fields := make(map[string]string)
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = strings.Join(strings.Fields(value), " ")
		}
		for name, want := range map[string]string{
			"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "NoNewPrivs": "1", "Seccomp": "2",
			"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
		} {
			if fields[name] != want {
				t.Errorf("%s is %q, want %q", name, fields[name], want)
			}
		}
		mounts, err := os.ReadFile(filepath.Join(process, "mounts"))
		if err != nil {
			t.Fatal(err)
		}
		readOnly := false
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == "/" {
				readOnly = strings.HasPrefix(f[3], "ro,") || f[3] == "ro"
			}
		}
		if !readOnly {
			t.Errorf("the root file system can be written:\n%s", mounts)
		}
	}
}

// processOf is the folder in /proc of a container's process.
func processOf(t *testing.T, container string) string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err == nil && container != "" && strings.Contains(string(text), container) {
			return filepath.Dir(file)
		}
	}
	t.Fatalf("no process is in container %q", container)
	return ""
}

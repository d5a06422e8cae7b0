package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// TestManifestArguments: what the plain manifests start is a command line of
// this program, with its variables, and check takes those, too.
func TestManifestArguments(t *testing.T) {
	manifests, err := os.ReadFile("../../../deploy/manifests/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(manifests), "\n---\n") {
		if !strings.Contains(document, "kind: DaemonSet") {
			continue
		}
		var set appsv1.DaemonSet
		if err := yaml.Unmarshal([]byte(document), &set); err != nil {
			t.Fatal(err)
		}
		container := set.Spec.Template.Spec.Containers[0]
		for _, v := range container.Env {
			if v.ValueFrom != nil {
				v.Value = "of the pod"
			}
			t.Setenv(v.Name, v.Value)
		}
		var g grammar
		for _, args := range [][]string{container.Args, {"check"}} { // as kubectl exec does
			if _, err := kong.Must(&g, options()...).Parse(args); err != nil {
				t.Fatal(err)
			}
		}
		if g.Check.run.GatewayURL != g.Run.GatewayURL || g.Check.NodeName != "of the pod" {
			t.Errorf("check is parsed as %+v", g.Check)
		}
		if g.Run.JoinTokenFile == "" || len(g.Run.Namespaces) == 0 || g.Run.RelayURL == nil {
			t.Errorf("parsed as %+v", g.Run)
		}
		return
	}
	t.Fatal("the manifests have no DaemonSet")
}

// runArguments is a whole command line of run; of a flag that is given twice
// the last counts.
func runArguments(t *testing.T, more ...string) []string {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubeconfig := file("kubeconfig", `{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":"https://api.example:6443"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`)
	return append([]string{"--relay-url=https://relay.example",
		"--namespaces=a,b", "--node-name=n", "--pod-name=p", "--gateway-url=http://g", "--launch-image=i",
		"--kubeconfig=" + kubeconfig}, more...)
}

// TestOptions: flags win over the environment, and files are read.
func TestOptions(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if err := os.WriteFile(ca, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	var g grammar
	args := append([]string{"run"}, runArguments(t, "--relay-ca-file="+ca, "--join-token-file=/etc/token", "--no-proxy=flag.example", "--nats-url=tls://nats.example:4222")...)
	if _, err := kong.Must(&g, options()...).Parse(args); err != nil {
		t.Fatal(err)
	}
	o, err := g.Run.options(func(name string) string {
		return map[string]string{"HTTPS_PROXY": "http://env", "NO_PROXY": "env"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	a := o.Agent
	got := []string{a.Dial.HTTPSProxy, a.Dial.NoProxy, o.Secret, o.JoinTokenFile, string(a.Dial.RootCAs), a.Kube.Host, a.PodNamespace, strings.Join(a.Namespaces, " "), a.NATS.String()}
	want := []string{"http://env", "flag.example", "trainrelay-agent", "/etc/token", "PEM", "https://api.example:6443", "azureml", "a b", "tls://nats.example:4222"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g.Run.RelayCAFile = filepath.Join(dir, "missing")
	if _, err := g.Run.options(os.Getenv); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
}

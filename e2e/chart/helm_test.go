package chart

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// TestHelm: what the agent keeps in the objects that the chart makes for it
// outlives every upgrade, and nothing outlives the uninstallation.
func TestHelm(t *testing.T) {
	ctx := t.Context()
	server := startServer(t, "train")
	helm := func(args ...string) { runHelm(t, server, args...) }
	chart, err := filepath.Abs("../../deploy/charts/trainrelay-agent")
	if err != nil {
		t.Fatal(err)
	}
	before := everything(t, server)
	upgrade := []string{"upgrade", "--install", "trainrelay-agent", chart, "--namespace", Namespace, "--create-namespace", "--reset-then-reuse-values"}
	token := func(letter string) string { return "join.token=trj_" + strings.Repeat(letter, 64) }
	helm(append(upgrade, "--set", minimal, "--set", token("A"))...)

	agent := agentOf(t, server)
	secret, err := agent.CoreV1().Secrets(Namespace).Get(ctx, "trainrelay-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(secret.Data) != 0 {
		t.Errorf("the agent's Secret is not empty: %v", secret.Data)
	}
	secret.Data = map[string][]byte{"credentials.json": []byte("{}"), "pending.json": []byte("{}")}
	if _, err := agent.CoreV1().Secrets(Namespace).Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	lease, err := agent.CoordinationV1().Leases(Namespace).Get(ctx, "trainrelay-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	holder := "some pod"
	lease.Spec.HolderIdentity = &holder
	if _, err := agent.CoordinationV1().Leases(Namespace).Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	for _, change := range [][]string{
		{"--set", token("B")},
		{"--set", "proxy.https=http://user:hunter2@proxy:3128", "--set", "join.token="},
		{"--server-side=false", "--set", "logLevel=debug"},
		{"--server-side=true", "--force-conflicts", "--set", "podLabels.team=ml"},
	} {
		helm(append(upgrade, change...)...)
		now, err := agent.CoreV1().Secrets(Namespace).Get(ctx, "trainrelay-agent", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(secret.Data, now.Data); diff != "" {
			t.Errorf("helm upgrade %v changes what the agent keeps (-before +after):\n%s", change, diff)
		}
		held, err := agent.CoordinationV1().Leases(Namespace).Get(ctx, "trainrelay-agent", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := held.Spec.HolderIdentity; got == nil || *got != holder {
			t.Errorf("helm upgrade %v takes the lease away: %v", change, got)
		}
	}

	helm("uninstall", "trainrelay-agent", "--namespace", Namespace, "--wait", "--cascade", "foreground")
	if diff := cmp.Diff(before, everything(t, server)); diff != "" {
		t.Errorf("left by helm uninstall (-before +after):\n%s", diff)
	}
}

// TestReadme: the commands that install the chart by hand do, as the chart's
// README has them.
func TestReadme(t *testing.T) {
	server := startServer(t)
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(repo, "deploy", "charts", "trainrelay-agent", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), " By hand:\n\n```sh\n")
	script, _, found := strings.Cut(after, "```\n")
	if !found {
		t.Fatal("the README does not install by hand")
	}
	// Where it is run there are the checkout's folder, the token and the authority.
	dir := t.TempDir()
	err = errors.Join(
		os.Symlink(filepath.Join(repo, "deploy"), filepath.Join(dir, "deploy")),
		os.WriteFile(filepath.Join(dir, "token"), []byte("trj_"+strings.Repeat("A", 64)+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "relay-ca.crt"), testkit.NewAuthority(t).PEM, 0o600),
		os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\nexec '"+filepath.Join(repo, "bin", "cluster", "k8s")+"' kubectl \"$@\"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(helmEnv(t, server), "PATH="+dir+":"+filepath.Join(repo, "bin", "cluster")+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := server.Client().AppsV1().DaemonSets(Namespace).Get(t.Context(), "trainrelay-agent", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func helmEnv(t *testing.T, server *cluster.Cluster) []string {
	t.Helper()
	home := t.TempDir()
	return append(os.Environ(), "KUBECONFIG="+server.Kubeconfig(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
}

// runHelm runs the real helm with all rights.
func runHelm(t *testing.T, server *cluster.Cluster, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../bin/cluster/helm", args...)
	cmd.Env = helmEnv(t, server)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// everything names the objects of the cluster that an installation could leave.
func everything(t *testing.T, server *cluster.Cluster) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../bin/cluster/k8s", "kubectl", "get", "--all-namespaces", "--output",
		`go-template={{range .items}}{{if ne .kind "Event"}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}{{"\n"}}{{end}}{{end}}`,
		"secrets,configmaps,leases,services,endpointslices,serviceaccounts,roles,rolebindings,daemonsets,controllerrevisions,pods,jobs,clusterroles,clusterrolebindings")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+server.Kubeconfig())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl get: %v: %s", err, &errs)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		// What every namespace has; the chart's is kept by helm.
		if fields := strings.Fields(line); fields[1] != Namespace+"/default" && fields[1] != Namespace+"/kube-root-ca.crt" {
			names = append(names, strings.TrimSpace(line))
		}
	}
	return names
}

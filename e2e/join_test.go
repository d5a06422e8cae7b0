package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/testkit"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// agentSpace is the agent's namespace.
const agentSpace = "azureml"

// TestJoinToken: a token joins once, the agent's keys stay in its Secret, a lost
// Secret is made up for by one command while jobs go on, and what is uninstalled
// leaves nothing.
func TestJoinToken(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		used := secret(t, "trainrelay-agent-join").Data["token"]
		for name, tc := range map[string]struct{ token, want string }{
			"used":    {string(used), "used"},
			"unknown": {unknownToken(t), "unknown"},
		} {
			if _, err := enrol(t, tc.token); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "cluster connect") {
				t.Errorf("a token that is %s: %v", name, err)
			}
		}
		out := site(t).CLI(t.Context(), "audit", "--action", "cluster.enrol", "-o", "json")
		if !strings.Contains(out.Stdout, `"agent:`+site(t).ClusterName) {
			t.Errorf("the audit log does not tell of the join: %s %s", out.Stdout, out.Stderr)
		}
	})

	t.Run("refused in the cluster", func(t *testing.T) {
		connectAfterFailure(t)
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(unknownToken(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		helm(t, "upgrade", "trainrelay-agent", filepath.Join(site(t).Repo, "deploy", "charts", "trainrelay-agent"),
			"--namespace", agentSpace, "--reuse-values", "--set-file", "join.token="+file)
		site(t).WaitForAgentLog(t, before, "the new join token is of no use now; going on with the credentials that are there")
		waitForSync(t)

		// Without credentials it says what it waits for, and lives.
		empty := secret(t, "trainrelay-agent")
		empty.Data = nil
		before = time.Now()
		if _, err := site(t).Client.CoreV1().Secrets(agentSpace).Update(t.Context(), empty, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		site(t).KillAgents(t)
		site(t).WaitForAgentLog(t, before, "cannot get the cluster's credentials; trying again")
		for path, want := range map[string]string{"readyz": "not joined: the relay refuses the join token: ", "healthz": "ok"} {
			pods, err := site(t).Client.CoreV1().Pods(agentSpace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=trainrelay-agent"})
			if err != nil || len(pods.Items) != 1 {
				t.Fatalf("%d agents, %v", len(pods.Items), err)
			}
			// Not ready is a 503, with the reason in its body.
			out, err := site(t).Client.CoreV1().RESTClient().Get().
				AbsPath("/api/v1/namespaces", agentSpace, "pods", pods.Items[0].Name+":8081", "proxy", path).DoRaw(t.Context())
			if !strings.Contains(string(out), want) {
				t.Errorf("/%s says %q, %v", path, out, err)
			}
		}
		if out := site(t).Connect(t.Context()); out.Code != 0 {
			t.Fatalf("joining again: exit code %d: %s", out.Code, out.Stderr)
		}
	})

	t.Run("keys stay", func(t *testing.T) {
		seeds := seedsOf(t)
		for _, object := range []string{"secrets", "configmaps", "pods", "jobs", "leases", "events"} {
			text, err := site(t).Kubectl(t.Context(), nil, "get", object, "-A", "-o", "json")
			if err != nil {
				t.Fatal(err)
			}
			for _, seed := range seeds {
				if strings.Contains(text, seed) { // in the Secret itself it is base64
					t.Errorf("a private key of the agent is in %s", object)
				}
			}
		}
		for _, dir := range []string{"relay", "log"} {
			searchFiles(t, filepath.Join(site(t).Dir, dir), seeds)
		}
	})

	t.Run("lost Secret", func(t *testing.T) {
		connectAfterFailure(t)
		const lines = 120
		before := seedsOf(t)
		name := unique("rejoin")
		submit(t, name, counting(lines))
		waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
		lost := time.Now()
		if err := site(t).Client.CoreV1().Secrets(agentSpace).Delete(t.Context(), "trainrelay-agent", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		site(t).KillAgents(t)
		site(t).WaitForAgentLog(t, lost, "there is no Secret trainrelay-agent")
		if out := site(t).Connect(t.Context()); out.Code != 0 {
			t.Fatalf("joining again: exit code %d: %s", out.Code, out.Stderr)
		}
		for _, seed := range seedsOf(t) {
			if slices.Contains(before, seed) {
				t.Error("the cluster has an old key")
			}
		}
		out := site(t).CLI(t.Context(), "job", "stream", "-n", name)
		if out.Code != 0 {
			t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
		}
		checkCounted(t, out.Stdout, lines)
		if job := showJob(t, name); job.Attempt != 1 {
			t.Errorf("joining again cost an attempt: %d", job.Attempt)
		}
	})

	t.Run("nothing is left", func(t *testing.T) {
		connectAfterFailure(t)
		kept := unique("kept")
		submit(t, kept, "command: sleep 3")
		waitFor(t, kept, func(j v1.Job) bool { return j.Status == protocol.Running })
		disconnect(t, "keep")
		helm(t, "uninstall", "trainrelay-agent", "--namespace", agentSpace, "--wait")
		takeJobsAway(t, kept)
		for _, kind := range []string{
			"secrets", "configmaps", "leases", "services", "serviceaccounts", "roles", "rolebindings", "daemonsets", "clusterroles", "clusterrolebindings",
		} {
			text, err := site(t).Kubectl(t.Context(), nil, "get", kind, "-A", "-o", "name")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "trainrelay") {
				t.Errorf("left of %s:\n%s", kind, text)
			}
		}
		out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName)
		if out.Code != exitNotFound {
			t.Errorf("the relay still knows the cluster: %s", out.Stdout)
		}
		if out := site(t).Connect(t.Context()); out.Code != 0 {
			t.Fatalf("connecting anew: exit code %d: %s", out.Code, out.Stderr)
		}
		name := unique("anew")
		out = site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: 'true'"), "--name", name, "--stream")
		if out.Code != 0 {
			t.Errorf("a job after that: exit code %d: %s", out.Code, out.Stderr)
		}
	})
}

// takeJobsAway: a Job whose end no agent has reported stays, until it is deleted
// as the documents say.
func takeJobsAway(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		jobs := kubernetesJobs(t, name)
		if len(jobs) != 1 {
			t.Fatalf("%d Kubernetes Jobs, want the one that was kept", len(jobs))
		}
		if jobs[0].Status.Succeeded == 1 {
			if ttl := jobs[0].Spec.TTLSecondsAfterFinished; ttl != nil {
				t.Errorf("it expires after %d s", *ttl)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the job that was kept does not end")
		}
	}
	if out, err := site(t).Kubectl(t.Context(), nil, "delete", "jobs", "-A", "-l", workload.Selector); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if left := kubernetesJobs(t, name); len(left) != 0 {
		t.Errorf("%d Jobs are left", len(left))
	}
}

// unknownToken is of another relay.
func unknownToken(t *testing.T) string {
	t.Helper()
	key, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := protocol.NewJoinToken(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return token.Text()
}

// enrol plays an agent that joins with the token.
func enrol(t *testing.T, token string) (*testkit.Joined, error) {
	t.Helper()
	config, err := client.LoadConfig(site(t).ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(config.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	return testkit.Join(t.Context(), &http.Client{Transport: transport}, "https://"+site(t).RelayAddr, token)
}

func secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	secret, err := site(t).Client.CoreV1().Secrets(agentSpace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// seedsOf are the agent's private keys, that of its nkey first.
func seedsOf(t *testing.T) []string {
	t.Helper()
	var credentials struct {
		Seed    string   `json:"nkey_seed"`
		Seals   []string `json:"seal_seeds"`
		Gateway string   `json:"gateway_seed"` // base64
	}
	if err := json.Unmarshal(secret(t, "trainrelay-agent").Data["credentials.json"], &credentials); err != nil || credentials.Seed == "" || len(credentials.Seals) == 0 || credentials.Gateway == "" {
		t.Fatalf("the Secret has no credentials: %v", err)
	}
	return append([]string{credentials.Seed, credentials.Gateway}, credentials.Seals...)
}

// searchFiles fails the test for each file below dir that has one of the texts.
func searchFiles(t *testing.T, dir string, texts []string) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		searched++
		for _, text := range texts {
			if strings.Contains(string(data), text) {
				t.Errorf("%s holds what is to be nowhere", path)
			}
		}
		return nil
	})
	if err != nil || searched == 0 {
		t.Errorf("%d files searched in %s: %v", searched, dir, err)
	}
}

// disconnect disconnects the cluster.
func disconnect(t *testing.T, jobs string) {
	t.Helper()
	out := site(t).CLI(t.Context(), "cluster", "disconnect", "-n", site(t).ClusterName, "--jobs", jobs, "--yes")
	if out.Code != 0 {
		t.Fatalf("cluster disconnect: exit code %d: %s", out.Code, out.Stderr)
	}
}

// helm runs the real helm at the cluster.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := site(t).Helm(context.WithoutCancel(t.Context()), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

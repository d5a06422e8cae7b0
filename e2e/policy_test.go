package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const policyMap = "trainrelay-agent-policy"

// setPolicy edits the policy's ConfigMap, as the cluster's admin does.
func setPolicy(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	patch := fmt.Sprintf(`{"data":{"policy.yaml":%q}}`, text)
	if _, err := site(t).Kubectl(ctx, nil, "patch", "configmap", policyMap, "-n", "azureml", "--type", "merge", "-p", patch); err != nil {
		t.Fatal(err)
	}
}

// TestPolicy: the admin's policy holds within the time that the kubelet takes
// to bring it, whatever users ask for; a broken one lets nothing start and says
// so; none of it needs a restart.
func TestPolicy(t *testing.T) {
	before, err := site(t).Kubectl(t.Context(), nil, "get", "configmap", policyMap, "-n", "azureml", "-o", `jsonpath={.data.policy\.yaml}`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		setPolicy(context.Background(), t, before) // for the other tests
		log, _ := site(t).Kubectl(context.Background(), nil, "logs", "-n", "azureml", "daemonset/trainrelay-agent", "--tail=20")
		t.Log(log)
	})

	setPolicy(t.Context(), t, "images: [registry.example/**]\n")
	refused := eventuallyRefused(t)
	if want := "policy: images: docker.io/library/" + site(t).Image + " matches none of registry.example/**"; !strings.Contains(refused.Reason.Message, want) {
		t.Errorf("the reason is %q, want %q", refused.Reason.Message, want)
	}
	if jobs := kubernetesJobs(t, refused.Name); len(jobs) > 0 {
		t.Errorf("a refused job has %d Kubernetes Jobs", len(jobs))
	}

	setPolicy(t.Context(), t, "images: [\n")
	const broken = "the cluster's policy allows nothing, since it is broken"
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName, "--query", "problems", "-o", "tsv")
		if strings.Contains(out.Stdout, broken) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("cluster show does not say that the policy is broken: %s%s", out.Stdout, out.Stderr)
		}
	}
	waits := unique("policy-broken")
	submit(t, waits, "command: true")
	job := waitFor(t, waits, func(j v1.Job) bool { return j.Reason != nil && strings.Contains(j.Reason.Message, broken) })
	if jobs := kubernetesJobs(t, waits); job.Status != protocol.Queued || len(jobs) > 0 {
		t.Errorf("under a broken policy the job is %s and has %d Kubernetes Jobs", job.Status, len(jobs))
	}

	setPolicy(t.Context(), t, before)
	waitFor(t, waits, func(j v1.Job) bool { return j.Status == protocol.Completed })
}

// eventuallyRefused submits jobs until the policy has come to the agent.
func eventuallyRefused(t *testing.T) v1.Job {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		name := unique("policy")
		submit(t, name, "command: true")
		for {
			job := showJob(t, name)
			if job.Status == protocol.Failed && job.Reason != nil && job.Reason.Code == protocol.PolicyRefused {
				return job
			}
			if job.Status.Terminal() || time.Now().After(deadline) {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	t.Fatal("jobs run in spite of the policy")
	return v1.Job{}
}

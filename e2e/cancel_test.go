package e2e

import (
	"strings"
	"testing"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestCancel: a running job is stopped in the cluster before it counts as
// canceled, and leaves no Job behind; a stream that watched it ends.
func TestCancel(t *testing.T) {
	name := unique("endless")
	submit(t, name, "command: while true; do date; sleep 1; done")
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })

	cancel(t, name)
	job := waitFor(t, name, func(j v1.Job) bool { return j.Status.Terminal() })
	if job.Status != protocol.Canceled || job.Reason == nil || job.Reason.Code != protocol.UserCanceled {
		t.Errorf("ended as %s, %v", job.Status, job.Reason)
	}
	if jobs := kubernetesJobs(t, name); len(jobs) != 0 {
		t.Errorf("%d Kubernetes Jobs are left", len(jobs))
	}
	if pods := kubernetesPods(t, name); len(pods) != 0 {
		t.Errorf("%d pods are left", len(pods))
	}
	if out := site(t).CLI(t.Context(), "job", "stream", "-n", name); out.Code != exitCanceled {
		t.Errorf("a stream of the canceled job ends with code %d, want %d\n%s", out.Code, exitCanceled, out.Stderr)
	}
	if again := site(t).CLI(t.Context(), "job", "cancel", "-n", name); again.Code != 0 {
		t.Errorf("cancelling once more fails with code %d: %s", again.Code, again.Stderr)
	}
}

// TestCancelQueued: before the claim a cancel is final at once, and the job
// never reaches the cluster.
func TestCancelQueued(t *testing.T) {
	resume := site(t).PauseAgents(t) // nobody claims
	name := unique("queued")
	submit(t, name, "command: 'true'")
	cancel(t, name)
	if job := showJob(t, name); job.Status != protocol.Canceled {
		t.Fatalf("the canceled job is %s", job.Status)
	}
	resume()
	// A job submitted later runs: the agent has synced since, and the canceled
	// one did not come with it.
	later := unique("later")
	out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: 'true'"), "--name", later, "--stream")
	if out.Code != 0 {
		t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
	}
	if jobs := kubernetesJobs(t, name); len(jobs) != 0 {
		t.Errorf("the canceled job has %d Kubernetes Jobs", len(jobs))
	}
}

// TestClusterShow: users see that the cluster is connected.
func TestClusterShow(t *testing.T) {
	out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName, "--query", "connectivity_status", "-o", "tsv")
	if got := strings.TrimSpace(out.Stdout); got != v1.Connected {
		t.Errorf("connectivity %q, want %q (%s)", got, v1.Connected, out.Stderr)
	}
}

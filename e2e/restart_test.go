package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/e2e/lab"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// counting prints the numbers from 1 to n, four a second.
func counting(n int) string {
	return fmt.Sprintf("command: i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; sleep 0.25; done", n)
}

// checkCounted fails the test unless the output has every line once, in order.
func checkCounted(t *testing.T, output string, n int) {
	t.Helper()
	var got []string
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "line ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if len(got) != n {
		t.Errorf("%d lines of output, want %d", len(got), n)
	}
	for i, line := range got {
		if want := fmt.Sprintf("line %d", i+1); line != want {
			t.Fatalf("line %d of the output is %q", i+1, line)
		}
	}
	for _, mark := range []string{"output lost", "Output: "} {
		if strings.Contains(output, mark) {
			t.Errorf("the output is marked %q, but nothing was lost:\n%s", mark, output)
		}
	}
}

// TestAgentRestart: the agent dies while a job runs. The job goes on, the next
// agent finds it, and the log has every line once.
func TestAgentRestart(t *testing.T) {
	const lines = 60
	name := unique("agent-restart")
	submit(t, name, counting(lines))
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
	before := kubernetesJobs(t, name)
	time.Sleep(2 * time.Second) // some lines are out
	site(t).KillAgents(t)

	out := site(t).CLI(t.Context(), "job", "stream", "-n", name)
	if out.Code != 0 {
		t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
	}
	checkCounted(t, out.Stdout, lines)
	after := kubernetesJobs(t, name)
	if len(before) != 1 || len(after) != 1 || before[0].UID != after[0].UID {
		t.Errorf("%d Jobs before the restart and %d after; want the same one", len(before), len(after))
	}
	if job := showJob(t, name); job.Attempt != 1 {
		t.Errorf("the restart cost an attempt: %d", job.Attempt)
	}
}

// TestRelayRestart: the relay is killed while a job runs and is followed. It
// knows the job again, the follower goes on, and has every line once.
func TestRelayRestart(t *testing.T) {
	const lines = 60
	name := unique("relay-restart")
	submit(t, name, counting(lines))
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
	followed := make(chan lab.Output, 1)
	go func() { followed <- site(t).CLI(t.Context(), "job", "stream", "-n", name) }()
	time.Sleep(2 * time.Second)

	site(t).KillRelay(t)
	if out := site(t).CLI(t.Context(), "job", "show", "-n", name); out.Code != exitNoRelay || !strings.Contains(out.Stderr, "cannot reach the relay") {
		t.Errorf("without a relay: exit code %d, want %d: %s", out.Code, exitNoRelay, out.Stderr)
	}
	site(t).StartRelay(t)

	afterwards := site(t).CLI(t.Context(), "job", "stream", "-n", name)
	for _, out := range []lab.Output{<-followed, afterwards} {
		if out.Code != 0 {
			t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
		}
		checkCounted(t, out.Stdout, lines)
	}
	if jobs := kubernetesJobs(t, name); len(jobs) != 1 {
		t.Errorf("%d Kubernetes Jobs, want 1", len(jobs))
	}
}

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestRevoke: a disconnected cluster's agent is cut and cannot come back, and
// what becomes of its jobs is the flag's choice.
func TestRevoke(t *testing.T) {
	t.Run("keep", func(t *testing.T) {
		connectAfterFailure(t)
		const lines = 120
		name := unique("kept")
		submit(t, name, counting(lines))
		waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
		key := site(t).AgentKey(t)
		cut := make(chan struct{})
		conn, err := site(t).AgentConn(key, nats.ClosedHandler(func(*nats.Conn) { close(cut) }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		disconnect(t, "keep")
		select {
		case <-cut:
			t.Logf("cut %d ms after `cluster disconnect` began", time.Since(began).Milliseconds())
		case <-time.After(time.Minute):
			t.Fatal("the disconnected cluster's connection is still open")
		}
		if again, err := site(t).AgentConn(key); err == nil {
			again.Close()
			t.Error("the key of a disconnected cluster is let in")
		}
		site(t).WaitForAgentLog(t, began, "does not accept the key")
		if jobs := kubernetesJobs(t, name); len(jobs) != 1 {
			t.Errorf("%d Kubernetes Jobs, want the one that goes on", len(jobs))
		}
		reconnect(t)
		out := site(t).CLI(t.Context(), "job", "stream", "-n", name)
		if out.Code != 0 {
			t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
		}
		checkCounted(t, out.Stdout, lines)
	})

	t.Run("cancel", func(t *testing.T) {
		connectAfterFailure(t)
		name := unique("ended")
		submit(t, name, "command: while true; do date; sleep 1; done")
		waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Running })
		disconnect(t, "cancel")
		for deadline := time.Now().Add(2 * time.Minute); len(kubernetesJobs(t, name)) > 0; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the job goes on")
			}
		}
		reconnect(t)
		job := waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Canceled })
		if job.Reason == nil || !strings.Contains(job.Reason.Message, "disconnected") {
			t.Errorf("canceled because of %v", job.Reason)
		}
	})
}

// connectAfterFailure connects the cluster where the test or subtest fails, which
// may leave it without an agent: what comes after needs one.
func connectAfterFailure(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if out := site(t).Connect(context.WithoutCancel(t.Context())); out.Code != 0 {
			t.Logf("cluster connect: exit code %d: %s", out.Code, out.Stderr)
		}
	})
}

// reconnect joins the cluster again.
func reconnect(t *testing.T) {
	t.Helper()
	began := time.Now()
	if out := site(t).Connect(t.Context()); out.Code != 0 {
		t.Fatalf("cluster connect: exit code %d: %s", out.Code, out.Stderr)
	}
	t.Logf("connected again after %.1f s", time.Since(began).Seconds())
}

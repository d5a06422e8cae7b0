package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestMainJobThroughProxy: all that the cluster sends outside goes to the
// proxy, which saw CONNECTs to the relay and nothing else.
func TestMainJobThroughProxy(t *testing.T) {
	reach := func(address string) error {
		_, err := site(t).NodeExec(t.Context(), "timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(address, ":", "/", 1))
		return err
	}
	if err := reach(site(t).ProxyAddr); err != nil {
		t.Fatalf("the node does not reach the proxy: %v", err)
	}
	if reach(site(t).RelayAddr) == nil {
		t.Fatal("the node reaches the relay without the proxy")
	}
	escaped, proxied := site(t).Escaped(t), site(t).Proxied(t)

	name := unique("proxied")
	out := site(t).CLI(t.Context(), "job", "create", "-f", filepath.Join(site(t).Repo, "examples", "iris", "job.yml"), "--name", name, "--stream")
	if out.Code != 0 {
		t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
	}
	// The agent reached the relay before this test, the code may come over a
	// connection that it kept: a restart of squid makes it dial, and squid log.
	site(t).StopProxy(t)
	site(t).StartProxy(t)
	waitForSync(t)
	if now := site(t).Proxied(t); now <= proxied {
		t.Error("no connection to the proxy was opened")
	}
	fromPods := 0
	for _, line := range site(t).ProxyLog(t) {
		if !strings.Contains(line, " 10.244.") {
			continue // the lab itself asks whether squid listens
		}
		fromPods++
		if !strings.Contains(line, "CONNECT "+site(t).RelayHost) {
			t.Errorf("the proxy saw something else than the way to the relay: %s", line)
		}
	}
	if fromPods == 0 {
		t.Error("the proxy saw nothing of the pods")
	}
	if now := site(t).Escaped(t); now != escaped {
		t.Errorf("%d packets tried to leave the pod network beside the proxy", now-escaped)
	}

	// The counter counts: a pod that tries is seen, and does not get through.
	relay := strings.ReplaceAll(site(t).RelayAddr, ":", "', ")
	out = site(t).CLI(t.Context(), "job", "create", "--stream", "-f",
		jobFile(t, `command: python3 -c "import socket; socket.create_connection(('`+relay+`), 3)"`))
	if out.Code != exitFailed {
		t.Errorf("a pod that dials the relay ends with code %d, want %d\n%s", out.Code, exitFailed, out.Stdout)
	}
	if site(t).Escaped(t) == escaped {
		t.Error("a pod dialled the relay directly and no packet was counted")
	}
}

// TestProxyRestart: the proxy goes away and comes back; the agent says what it
// waits for, and nothing is lost.
func TestProxyRestart(t *testing.T) {
	before := time.Now()
	site(t).KillProxy(t)
	name := unique("no-proxy")
	submit(t, name, "command: echo through again")
	site(t).WaitForAgentLog(t, before, "nothing listens at the proxy's address")
	site(t).StartProxy(t)
	out := site(t).CLI(t.Context(), "job", "stream", "-n", name)
	if out.Code != 0 || !strings.Contains(out.Stdout, "through again") {
		t.Errorf("exit code %d\n%s\n%s", out.Code, out.Stdout, out.Stderr)
	}
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Completed })
}

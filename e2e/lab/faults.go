package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KillRelay ends the relay at once, as a crash would.
func (l *Lab) KillRelay(t testing.TB) { l.kill(t, "relay") }

// StartRelay starts the relay again, on the data it left, and waits until it
// is ready.
func (l *Lab) StartRelay(t testing.TB) {
	t.Helper()
	if err := l.startRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// KillProxy ends squid at once.
func (l *Lab) KillProxy(t testing.TB) { l.kill(t, "squid") }

// StopProxy asks squid to end: it closes its connections, and logs them.
func (l *Lab) StopProxy(t testing.TB) {
	t.Helper()
	if err := l.host.Process("squid").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// StartProxy starts squid again.
func (l *Lab) StartProxy(t testing.TB) {
	t.Helper()
	if err := l.startProxy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ResolveRelay makes the relay's name lead to another address, where an
// imposter may stand, until restore is called.
func (l *Lab) ResolveRelay(t testing.TB, ip string) (restore func()) {
	t.Helper()
	l.resolveRelay(t, ip)
	return sync.OnceFunc(func() { l.resolveRelay(t, cloudRelayIP) })
}

// resolveRelay starts squid anew, which reads its hosts file at the start.
func (l *Lab) resolveRelay(t testing.TB, ip string) {
	t.Helper()
	if err := os.WriteFile(l.path("squid", "hosts"), []byte(ip+" "+relayHost+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Also from a cleanup, when the test's context is over.
	ctx := context.WithoutCancel(t.Context())
	if err := errors.Join(l.host.Process("squid").Stop(ctx), l.startProxy(ctx)); err != nil {
		t.Fatal(err)
	}
}

func (l *Lab) kill(t testing.TB, name string) {
	t.Helper()
	if err := l.host.Process(name).Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// KillAgents ends every agent at once; the kubelet starts them again.
func (l *Lab) KillAgents(t testing.TB) { l.signalAgents(t, syscall.SIGKILL) }

// PauseAgents stops every agent where it is, until resume or the end of the
// test.
func (l *Lab) PauseAgents(t testing.TB) (resume func()) {
	t.Helper()
	l.signalAgents(t, syscall.SIGSTOP)
	paused := true
	resume = func() {
		if paused {
			paused = false
			l.signalAgents(t, syscall.SIGCONT)
		}
	}
	t.Cleanup(resume)
	return resume
}

func (l *Lab) signalAgents(t testing.TB, signal syscall.Signal) {
	t.Helper()
	agents, err := agents()
	if err == nil && len(agents) == 0 {
		err = errors.New("no agent runs")
	}
	for _, pid := range agents {
		err = errors.Join(err, syscall.Kill(pid, signal))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// agents are the processes of the agents in the node's containers.
func agents() ([]int, error) {
	const program = "trainrelay-agent"
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || filepath.Base(target) != program {
			continue // gone, or a kernel thread
		}
		cgroup, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cgroup"))
		if err != nil || !strings.Contains(string(cgroup), nodeNamespace) {
			continue // not in a container of the node
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", link, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// WaitForAgentLog waits until an agent has logged a line with the text after a
// time, which is that before what makes it do so.
func (l *Lab) WaitForAgentLog(t testing.TB, after time.Time, text string) {
	t.Helper()
	err := waitUntil(t.Context(), fmt.Sprintf("the agent logs %q", text), func(ctx context.Context) error {
		// By the node's clock, which is this machine's; --since-time has whole seconds.
		log, err := l.Kubectl(ctx, nil, "logs", "-n", agentSpace, "daemonset/trainrelay-agent", "--timestamps", "--since-time="+after.UTC().Format(time.RFC3339))
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			stamp, line, _ := strings.Cut(line, " ")
			if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.After(after) && strings.Contains(line, text) {
				return nil
			}
		}
		return fmt.Errorf("its log:\n%s", log)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ProxyLog is squid's access log, a line a connection that has ended.
func (l *Lab) ProxyLog(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(l.path("squid", "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

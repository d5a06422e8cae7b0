package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// ownerVariable makes this test binary the owner of a cluster with a node.
const ownerVariable = "TEST_CLUSTER_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerVariable); dir != "" {
		own(dir)
	}
	os.Exit(m.Run())
}

// own starts a cluster, prints its progress and waits to be killed.
func own(dir string) {
	_, err := cluster.Start(context.Background(), cluster.Options{
		Dir: dir, Bin: bin, Nodes: 1, Detach: filepath.Base(dir) == "detached",
		Log: func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
	})
	fmt.Println("the end of Start:", err)
	select {}
}

// An owner that is killed leaves no cluster running, unless it had detached it,
// and what it leaves is found and removed by whoever comes next.
func TestOwnerKilled(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name, at string
		survives bool
	}{
		{"early", "the API server is ready", false},
		{"late", "the end of Start: <nil>", false},
		{"detached", "the end of Start: <nil>", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := machineState(t)
			dir := filepath.Join(t.TempDir(), test.name)
			killOwner(t, dir, test.at)

			h, err := host.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{cluster.Etcd, cluster.APIServer} {
				process := h.Process(name)
				if process == nil {
					t.Fatalf("%s is not recorded", name)
				}
				if test.survives {
					if !process.Alive() {
						t.Errorf("%s died with its owner", name)
					}
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if err := process.Wait(ctx); err != nil {
					t.Errorf("%s outlived its owner: %v", name, err)
				}
			}
			if test.survives {
				useAfterOwner(t, dir)
			}
			if err := cluster.Down(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, machineState(t)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("the cluster's folder is still there")
			}
		})
	}
}

// killOwner runs an owner and kills it when it has printed a line.
func killOwner(t *testing.T, dir, line string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.CommandContext(t.Context(), self)
	owner.Env = append(os.Environ(), ownerVariable+"="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	seen := false
	for scanner := bufio.NewScanner(out); !seen && scanner.Scan(); {
		t.Log("owner:", scanner.Text())
		seen = strings.Contains(scanner.Text(), line)
		if !seen && strings.Contains(scanner.Text(), "the end of Start") {
			break
		}
	}
	if seen && filepath.Base(dir) != "detached" {
		if err := cluster.Down(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "in use by process") {
			t.Errorf("Down of a cluster that has an owner: %v", err)
		}
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // killed
	if !seen {
		t.Fatalf("the owner never said %q", line)
	}
}

// useAfterOwner acts on a cluster that another process started.
func useAfterOwner(t *testing.T, dir string) {
	t.Helper()
	c, err := cluster.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.NodeExec(t.Context(), 1, "hostname", "-I"); err != nil || !strings.Contains(string(out), "10.88.0.11") {
		t.Errorf("on the node, hostname -I: %q, %v", out, err)
	}
	for _, name := range []string{"node1/kubelet", cluster.CoreDNS} {
		if err := c.Component(name).Restart(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cluster with nodes needs root")
	}
}

// Package e2e tests trainrelay as its users meet it: the real binaries, a real
// Kubernetes cluster whose pods reach the relay only through a real squid, real
// training in real containers. One lab serves all tests of a run.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/trainrelay/trainrelay/e2e/lab"
)

var keep = flag.Bool("keep", false, "leave the lab standing after the tests, to look at it")

// site is the lab of this run.
var site *lab.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: needs root, for network namespaces and containers")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	repo, err := filepath.Abs("..")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	options := lab.Options{Repo: repo, Dir: filepath.Join(repo, ".lab", "e2e"), Log: os.Stderr}
	site, err = lab.Up(ctx, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the lab does not start:", err)
		return 1
	}
	code := m.Run()
	if *keep {
		return code
	}
	if err := lab.Down(context.WithoutCancel(ctx), options); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the lab leaves something behind:", err)
		return 1
	}
	return code
}

// Package e2e tests trainrelay as its users meet it: the real binaries, a real
// Kubernetes cluster whose pods reach the relay only through a real squid, real
// training in real containers. One lab serves all tests of a run.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/trainrelay/trainrelay/e2e/lab"
)

var keep = flag.Bool("keep", false, "leave the lab standing after the tests, to look at it")

// standing is the lab of this run, made by the first test that asks for it.
var standing = sync.OnceValues(func() (*lab.Lab, error) {
	options, err := options()
	if err != nil {
		return nil, err
	}
	return lab.Up(context.Background(), options)
})

// site returns the lab.
func site(t testing.TB) *lab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces and containers")
	}
	l, err := standing()
	if err != nil {
		t.Fatalf("the lab does not stand: %v", err)
	}
	return l
}

func options() (lab.Options, error) {
	repo, err := filepath.Abs("..")
	return lab.Options{Repo: repo, Dir: filepath.Join(repo, ".lab", "e2e"), Log: os.Stderr}, err
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if options, err := options(); err == nil && !*keep {
		if err := lab.Down(context.Background(), options); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: the lab leaves something behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

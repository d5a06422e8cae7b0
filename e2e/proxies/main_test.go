// Package proxies tests the way out: the real agent against a real relay,
// through every kind of proxy and every failure of one, each with the real
// program.
//
//	test process, API server
//	  │ 10.77.0.1                             │ 10.78.0.1
//	──┴───────── site 10.77.0.0/24 ──┐   ┌────┴───── cloud 10.78.0.0/24 ──┐
//	  │ 10.77.0.2        10.77.0.3   │   │   10.78.0.3                    │ 10.78.0.2
//	agents                     └─── proxies ─┘                          relay
//
// Agents have no route but to their own network, and DNS that answers nothing;
// the relay's name resolves for the proxies alone. One more place, 10.77.0.4
// and 10.78.0.4, has both networks, for agents whose settings pass the proxy
// by. Every agent is a cluster of its own at the one relay, with namespaces of
// its own in the one API server, where the test plays the kubelet.
package proxies

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// update writes the table of docs/proxies.md anew.
var update = flag.Bool("update", false, "write the table of docs/proxies.md anew")

// patience is how long what has to come may take.
const patience = 90 * time.Second

// world is what all tests share.
var world *ground

func TestMain(m *testing.M) {
	if os.Getenv(probeVariable) != "" {
		os.Exit(probe{}.run(context.Background()))
	}
	// They wait for others most of the time.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e/proxies: left out: it needs root, for network namespaces")
		return 0
	}
	ctx := context.Background()
	g, err := newGround(ctx)
	defer func() {
		if err := g.remove(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "e2e/proxies: something is left behind:", err)
			code = 1
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/proxies:", err)
		return 1
	}
	world = g
	return m.Run()
}

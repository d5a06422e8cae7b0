package rules

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports keeps the walls of the house: what crosses the firewall depends
// on nothing, the two sides know each other only by it, and each heavy library
// stays in the rooms that speak to what it is for.
func TestImports(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, imported := range file.imports() {
			if why := forbidden(file.dir, imported, file.test); why != "" {
				t.Errorf("%s imports %s: %s", file.name, imported, why)
			}
		}
	}
}

// TestForbidden: the rules themselves.
func TestForbidden(t *testing.T) {
	for _, tc := range []struct {
		dir, imported string
		code, inTest  bool // whether it is forbidden there
	}{
		{"protocol", "encoding/json", false, false},
		{"protocol", "github.com/rs/zerolog", true, false},
		{"agent/link", "./relay/records", true, true},
		{"relay", "./agent", true, true},
		{"internal/cli", "./relay", true, true},
		{"internal/cli", "./internal/client", false, false},
		{"relay/api", "./relay/records", true, false},
		{"relay/api", "./relay", true, false},
		{"relay", "./relay/records", false, false},
		{"agent/cluster", "./agent/workload", false, false},
		{"agent/workload", "./agent/cluster", true, false},
		{"agent/cmd/trainrelay-launch", "./agent/launch", false, false},
		{"agent/cluster", "k8s.io/client-go/kubernetes", false, false},
		{"relay/api", "k8s.io/client-go/kubernetes", true, true},
		{"agent/link", "github.com/nats-io/nats.go", false, false},
		{"agent/logs", "github.com/nats-io/nats.go", true, false},
		{"agent/link", "github.com/nats-io/nats-server/v2/server", true, false},
		{"relay/broker", "github.com/nats-io/jwt/v2", false, false},
		{"relay/api", "github.com/nats-io/jwt/v2", true, false},
		{"e2e/lab", "./relay", false, false},
	} {
		for _, test := range []bool{false, true} {
			want := tc.code
			if test {
				want = tc.inTest
			}
			if why := forbidden(tc.dir, tc.imported, test); (why != "") != want {
				t.Errorf("%s imports %s, in a test %v: %q", tc.dir, tc.imported, test, why)
			}
		}
	}
}

// forbidden says why a file in dir must not import a package; empty if it may.
func forbidden(dir, imported string, test bool) string {
	thirdParty := strings.Contains(strings.Split(imported, "/")[0], ".") && !strings.HasPrefix(imported, "./")
	switch {
	case within(dir, "e2e"):
		return "" // its own module, and it drives both sides
	case within(dir, "agent") && within(imported, "./relay"), within(dir, "relay") && within(imported, "./agent"):
		return "agent and relay know each other only by protocol"
	case within(dir, "internal", "protocol", "deploy") && within(imported, "./agent", "./relay"):
		return "what both sides share depends on neither"
	case within(imported, "k8s.io", "sigs.k8s.io/controller-runtime") && !within(dir, "agent"):
		return "Kubernetes is the agent's business"
	case test:
		return ""
	case within(dir, "protocol") && (thirdParty || within(imported, "./internal")):
		return "protocol imports only the standard library"
	case imported == "github.com/nats-io/nats.go" && !within(dir, "internal/bus", "agent/link", "relay/broker", "relay/records", "relay/logs", "relay/audit"):
		return "NATS stays in the rooms that speak it"
	case within(imported, "github.com/nats-io/nats-server", "github.com/nats-io/jwt") && !within(dir, "relay/broker"):
		return "the server, and what it is told of its clients, is the broker's"
	}
	for _, side := range []string{"agent", "relay"} {
		here, there := room(dir, side), room(strings.TrimPrefix(imported, "./"), side)
		switch {
		case here == "" || here == "cmd" || here == there: // the parent and the mains wire the rooms
		case imported == "./"+side:
			return "a room does not know its parent"
		case there != "" && !(here == "cluster" && there == "workload"):
			return "rooms do not know each other; the parent wires them through an interface of the consumer"
		}
	}
	return ""
}

// room names the room of a side that a folder is in; empty if in none.
func room(dir, side string) string {
	rest, ok := strings.CutPrefix(dir, side+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// TestLauncherIsSmall: the launcher runs in users' pods and carries neither
// the Kubernetes client nor NATS, not even by way of another package.
func TestLauncherIsSmall(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./agent/cmd/trainrelay-launch")
	list.Dir = root
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if within(strings.TrimSpace(line), "k8s.io", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2") {
			t.Errorf("the launcher links %s", line)
		}
	}
}

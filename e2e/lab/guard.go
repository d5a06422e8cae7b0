package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// nodeNamespace is the network namespace of the lab's one node.
const nodeNamespace = "tr-node1"

// guardNode makes the node's firewall count what leaves the pod network: to
// the proxy, and to anywhere that is neither the cluster's own nor the proxy,
// which it rejects.
func (l *Lab) guardNode(ctx context.Context) error {
	l.opts.say("letting pods out to the proxy only")
	for _, rule := range []string{
		"-N TR-GUARD",
		"-A TR-GUARD -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
		"-A TR-GUARD -d " + cluster.PodNetwork + " -j RETURN",
		"-A TR-GUARD -d 10.88.0.1 -p tcp --dport 6443 -j RETURN",
		"-A TR-GUARD -d 10.88.0.1 -p udp --dport 53 -j RETURN",
		"-A TR-GUARD -d 10.88.0.1 -p tcp --dport 53 -j RETURN",
		fmt.Sprintf("-A TR-GUARD -d %s -p tcp --dport %d -j RETURN", siteProxyIP, proxyPort),
		"-A TR-GUARD -j REJECT",
		"-I FORWARD -s " + cluster.PodNetwork + " -j TR-GUARD",
	} {
		if _, err := l.NodeExec(ctx, append([]string{"iptables", "-w"}, strings.Fields(rule)...)...); err != nil {
			return err
		}
	}
	return nil
}

// NodeExec runs a command in the node's network.
func (l *Lab) NodeExec(ctx context.Context, args ...string) (string, error) {
	out, err := host.Exec(ctx, host.Space{Net: nodeNamespace}, args...)
	return string(out), err
}

// Escaped counts the packets of pods that were bound for anywhere but the
// cluster and the proxy; they were rejected.
func (l *Lab) Escaped(t testing.TB) int { return l.guarded(t, "REJECT", "") }

// Proxied counts the connections that pods opened to the proxy.
func (l *Lab) Proxied(t testing.TB) int { return l.guarded(t, "RETURN", siteProxyIP) }

// guarded reads the packet counter of one of the guard's rules.
func (l *Lab) guarded(t testing.TB, target, destination string) int {
	t.Helper()
	out, err := l.NodeExec(t.Context(), "iptables", "-w", "-nvxL", "TR-GUARD")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		// pkts bytes target prot opt in out source destination …
		f := strings.Fields(line)
		if len(f) < 9 || f[2] != target || destination != "" && f[8] != destination {
			continue
		}
		packets, err := strconv.Atoi(f[0])
		if err != nil {
			t.Fatalf("iptables counts %q", line)
		}
		return packets
	}
	t.Fatalf("the guard has no rule %s %s:\n%s", target, destination, out)
	return 0
}

package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// Where everything is in a cluster with nodes.
const (
	Bridge         = "tr-site"       // the site's network device on this machine
	HostAddress    = "10.88.0.1/24"  // of this machine on the bridge
	PodNetwork     = "10.244.0.0/16" // node N has 10.244.N.0/24 of it
	ServiceNetwork = "10.96.0.0/16"
	DNSAddress     = "10.96.0.10" // service address of the cluster's DNS

	serverService = "10.96.0.1" // service address of the API server
	serverPort    = 6443
)

// hostIP is this machine on the bridge.
func hostIP() netip.Addr { return netip.MustParsePrefix(HostAddress).Addr() }

// PodRoutes are the routes that lead a machine on the bridge, such as a proxy,
// to the cluster's pods.
func (c *Cluster) PodRoutes() []host.Route {
	var routes []host.Route
	for n := range c.nodes() {
		routes = append(routes, host.Route{To: n.pods(), Via: n.ip()})
	}
	return routes
}

// node is one node by its number, from 1.
type node int

func (n node) name() string          { return fmt.Sprintf("node%d", n) }
func (n node) ip() netip.Addr        { return netip.AddrFrom4([4]byte{10, 88, 0, 10 + byte(n)}) }
func (n node) address() netip.Prefix { return netip.PrefixFrom(n.ip(), 24) }
func (n node) pods() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24)
}

// namespace is the node's network namespace, and its cgroup's name.
func (n node) namespace() string { return "tr-" + n.name() }

// nodes yields the cluster's nodes.
func (c *Cluster) nodes() func(yield func(node) bool) {
	return func(yield func(node) bool) {
		for i := range c.options.Nodes {
			if !yield(node(i + 1)) {
				return
			}
		}
	}
}

// ports are where the control plane listens.
type ports struct {
	EtcdClient int `json:"etcd_client"`
	EtcdPeer   int `json:"etcd_peer"`
	Server     int `json:"server"`
}

// choosePorts finds free ports on 127.0.0.1 below those that the kernel gives
// to outgoing connections, so that nobody takes one before it is used.
func choosePorts(ports ...*int) error {
	const first, last, tries = 20000, 32000, 200
	taken := map[int]bool{}
	for _, port := range ports {
		for try := 0; *port == 0; try++ {
			if try == tries {
				return fmt.Errorf("no free port on 127.0.0.1 found between %d and %d", first, last)
			}
			candidate := first + rand.IntN(last-first)
			if taken[candidate] {
				continue
			}
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", candidate))
			if err != nil {
				continue
			}
			if err := listener.Close(); err != nil {
				return err
			}
			*port, taken[candidate] = candidate, true
		}
	}
	return nil
}

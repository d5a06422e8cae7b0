package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// PauseImage holds a pod's namespaces; every node has it.
const PauseImage = "registry.k8s.io/pause:3.10.1"

// nodeParts are a node's processes beside its first, in the order of starting.
var nodeParts = []string{"containerd", "kubelet", "proxy"}

// nodeFolders are the places on a node where its processes keep their state, and
// the folders of the node's own that they lead to.
var nodeFolders = map[string]string{
	"/var/lib/kubelet":    "kubelet",
	"/var/lib/containerd": "containerd",
	"/var/lib/cni":        "cni",
	"/var/log/pods":       "pods",
	"/var/log/containers": "containers",
	"/etc/cni":            "cni-config",
}

// kubeletSysctls are what the kubelet sets for the whole machine.
var kubeletSysctls = []string{
	"kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	"vm/overcommit_memory", "vm/panic_on_oom",
}

// prepareNode makes what a node stands on: its folders, network and cgroup.
func (c *Cluster) prepareNode(n node) error {
	files := nodeFiles{Dir: c.nodeDir(n), Cgroup: n.namespace(), Pods: n.pods().String()}
	if err := c.writeConfig(files.Dir, files, "kubelet.yaml", "proxy.yaml", "containerd.toml"); err != nil {
		return err
	}
	if err := c.writeConfig(filepath.Join(files.Dir, "cni-config", "net.d"), files, "10-bridge.conflist"); err != nil {
		return err
	}
	resolv := "nameserver " + hostIP().String() + "\n"
	if err := os.WriteFile(filepath.Join(files.Dir, "resolv.conf"), []byte(resolv), 0o644); err != nil {
		return err
	}
	for target, folder := range nodeFolders {
		if err := os.MkdirAll(filepath.Join(files.Dir, folder), 0o755); err != nil {
			return err
		}
		if err := c.host.MkdirAll(target); err != nil {
			return err
		}
	}
	if err := c.host.AddCgroup(n.namespace()); err != nil {
		return err
	}
	if err := c.host.AddNamespace(n.namespace()); err != nil {
		return err
	}
	return c.host.AddLeg(c.nodeLeg(n))
}

// nodeLeg is the node's cable to the site. Every node knows the way to the pods
// of the others.
func (c *Cluster) nodeLeg(n node) host.Leg {
	leg := host.Leg{
		Namespace: n.namespace(), Interface: "eth0", Bridge: Bridge,
		Address: n.address(),
		Routes:  []host.Route{{Via: hostIP()}},
	}
	for other := range c.nodes() {
		if other != n {
			leg.Routes = append(leg.Routes, host.Route{To: other.pods(), Via: other.ip()})
		}
	}
	return leg
}

// nodeProcess returns how the part of a node is run; the part "" is the node's
// first process, whose end is the end of all others.
func (c *Cluster) nodeProcess(n node, part string) (process, bool) {
	dir := c.nodeDir(n)
	in := c.nodeSpace(n)
	switch part {
	case "":
		args := []string{c.bin("nodeinit"), "--resolv-conf=" + filepath.Join(dir, "resolv.conf")}
		for target, folder := range nodeFolders {
			args = append(args, "--bind="+filepath.Join(dir, folder)+"="+target)
		}
		return process{command: host.Command{
			Args: args, In: host.Space{Net: n.namespace()}, First: true, Notify: true,
		}}, true
	case "containerd":
		return process{
			command: host.Command{
				Args: []string{c.bin("containerd"), "--config=" + filepath.Join(dir, "containerd.toml")},
				Env:  []string{"PATH=" + c.options.Bin + ":" + host.Path}, // where it finds its shim
				In:   in,
			},
			ready: func(ctx context.Context) error {
				_, err := host.Exec(ctx, in, c.bin("ctr"), "version")
				return err
			},
		}, true
	case "kubelet":
		return process{
			command: host.Command{Args: []string{
				c.bin("k8s"), "kubelet",
				"--config=" + filepath.Join(dir, "kubelet.yaml"),
				"--kubeconfig=" + c.pki(n.name()+".kubeconfig"),
				"--hostname-override=" + n.name(),
				"--node-ip=" + n.ip().String(),
			}, In: in},
			ready: func(ctx context.Context) error { return c.nodeReady(ctx, n) },
		}, true
	case "proxy":
		return process{command: host.Command{Args: []string{
			c.bin("k8s"), "proxy",
			"--config=" + filepath.Join(dir, "proxy.yaml"),
			"--hostname-override=" + n.name(),
		}, In: in}}, true
	}
	return process{}, false
}

// restartNode starts a dead node again, as after a power cut.
func (c *Cluster) restartNode(ctx context.Context, n node) error {
	for _, part := range append([]string{""}, nodeParts...) {
		name := n.name()
		if part != "" {
			name += "/" + part
		}
		if err := c.Component(name).start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// NodeExec runs a command on node n, from 1, and returns its output: in the
// node's network, with its mounts, among its processes.
func (c *Cluster) NodeExec(ctx context.Context, n int, args ...string) ([]byte, error) {
	if n < 1 || n > c.options.Nodes {
		return nil, fmt.Errorf("the cluster has no node %d: it has %d", n, c.options.Nodes)
	}
	return host.Exec(ctx, c.nodeSpace(node(n)), args...)
}

// Import loads images, docker archives as package images writes them, into
// every node.
func (c *Cluster) Import(ctx context.Context, tars ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range c.nodes() {
		group.Go(func() error { return c.importInto(ctx, n, tars...) })
	}
	return group.Wait()
}

func (c *Cluster) importInto(ctx context.Context, n node, tars ...string) error {
	for _, tar := range tars {
		tar, err := filepath.Abs(tar)
		if err != nil {
			return err
		}
		if _, err := host.Exec(ctx, c.nodeSpace(n), c.bin("ctr"), "--namespace=k8s.io", "images", "import", tar); err != nil {
			return fmt.Errorf("import an image into %s: %w", n.name(), err)
		}
	}
	return nil
}

// nodeSpace is where the node's processes run.
func (c *Cluster) nodeSpace(n node) host.Space {
	space := host.Space{Net: n.namespace()}
	if first := c.host.Process(n.name()); first != nil {
		space.PID = first.PID()
	}
	return space
}

// nodeNamed returns the node of that name.
func (c *Cluster) nodeNamed(name string) (node, bool) {
	for n := range c.nodes() {
		if n.name() == name {
			return n, true
		}
	}
	return 0, false
}

func (c *Cluster) nodeDir(n node) string { return filepath.Join(c.options.Dir, n.name()) }

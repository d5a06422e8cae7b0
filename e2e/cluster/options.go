package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const maxNodes = 9 // node N is at 10.88.0.1N

// Options says what cluster to run. Dir and Bin are needed.
type Options struct {
	Dir   string `json:"dir"`   // state folder: new, empty, or an earlier cluster's
	Bin   string `json:"bin"`   // folder of k8s, coredns, nodeinit, containerd...
	Nodes int    `json:"nodes"` // 0 to 9; one or more need root

	Detach bool `json:"detach"` // outlive the process that starts it
	Fsync  bool `json:"fsync"`  // etcd survives power cuts; slower
	Audit  bool `json:"audit"`  // the API server logs every request to Dir/log/audit.log

	// Log gets a line of progress; nil is silence.
	Log func(format string, args ...any) `json:"-"`
}

func (o *Options) validate() error {
	if o.Dir == "" || o.Bin == "" {
		return errors.New("cluster options: Dir and Bin are needed")
	}
	if o.Nodes < 0 || o.Nodes > maxNodes {
		return fmt.Errorf("cluster options: Nodes is %d, not 0 to %d", o.Nodes, maxNodes)
	}
	for _, path := range []*string{&o.Dir, &o.Bin} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	binaries := []string{"k8s"}
	if o.Nodes > 0 {
		binaries = append(binaries, "coredns", "nodeinit", "pause", "containerd", "containerd-shim-runc-v2", "ctr")
	}
	for _, name := range binaries {
		if _, err := os.Stat(filepath.Join(o.Bin, name)); err != nil {
			return fmt.Errorf("cluster options: Bin has no %s: build the cluster's binaries first: %w", name, err)
		}
	}
	if o.Nodes == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster with nodes needs root, for namespaces and mounts")
	}
	for _, program := range []string{"runc", "iptables", "/usr/lib/cni/bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: install the Debian packages %v", err, Packages)
		}
	}
	return nil
}

// Packages are the Debian packages that a cluster with nodes needs.
var Packages = []string{"runc", "containernetworking-plugins", "iptables"}

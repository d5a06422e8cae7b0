package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// The components of the control plane. Those of a node are named after it:
// node1, node1/containerd, node1/kubelet, node1/proxy.
const (
	Etcd              = "etcd"
	APIServer         = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	CoreDNS           = "coredns"
)

// process says how a component is started and when it is ready.
type process struct {
	command host.Command
	ready   func(context.Context) error // polled until nil; nil: ready when started
}

// controlPlane returns the components that run on this machine itself.
func (c *Cluster) controlPlane() map[string]process {
	processes := map[string]process{
		Etcd:              {command: c.etcd(), ready: c.etcdReady},
		APIServer:         {command: c.apiServer(), ready: c.serverReady},
		ControllerManager: {command: c.controllerManager(), ready: c.defaultAccount},
		Scheduler:         {command: c.scheduler()},
	}
	if c.options.Nodes > 0 {
		processes[CoreDNS] = process{command: c.coreDNS(), ready: c.dnsAnswers}
	}
	return processes
}

func (c *Cluster) etcd() host.Command {
	return host.Command{Args: []string{
		c.bin("k8s"), "etcd",
		"--data-dir=" + filepath.Join(c.options.Dir, "etcd"),
		fmt.Sprintf("--client-url=http://127.0.0.1:%d", c.ports.EtcdClient),
		fmt.Sprintf("--peer-url=http://127.0.0.1:%d", c.ports.EtcdPeer),
		fmt.Sprintf("--fsync=%t", c.options.Fsync),
	}}
}

func (c *Cluster) apiServer() host.Command {
	args := []string{
		c.bin("k8s"), "apiserver",
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.EtcdClient),
		"--bind-address=" + c.serverIP(),
		"--advertise-address=" + c.serverIP(),
		fmt.Sprintf("--secure-port=%d", c.ports.Server),
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file=" + c.pki("sa.pub"),
		"--service-account-signing-key-file=" + c.pki("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-cluster-ip-range=" + ServiceNetwork,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--proxy-client-cert-file=" + c.pki("aggregator.crt"),
		"--proxy-client-key-file=" + c.pki("aggregator.key"),
		"--requestheader-client-ca-file=" + c.pki("ca.crt"),
		"--requestheader-allowed-names=aggregator",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
	}
	if c.options.Nodes == 0 {
		// An endpoint on 127.0.0.1 is not allowed, and no pod would use it.
		args = append(args, "--endpoint-reconciler-type=none")
	}
	if c.options.Audit {
		args = append(args,
			"--audit-policy-file="+c.config("audit.yaml"),
			"--audit-log-path="+c.AuditLog(),
		)
	}
	return host.Command{Args: args}
}

func (c *Cluster) controllerManager() host.Command {
	return host.Command{Args: []string{
		c.bin("k8s"), "controller-manager",
		"--kubeconfig=" + c.pki("controller-manager.kubeconfig"),
		"--service-account-private-key-file=" + c.pki("sa.key"),
		"--root-ca-file=" + c.pki("ca.crt"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--secure-port=0",
		"--flex-volume-plugin-dir=" + filepath.Join(c.options.Dir, "plugins"), // not in /usr
		// With the defaults the cluster makes 3 jobs a second.
		"--kube-api-qps=3000", "--kube-api-burst=5000", "--concurrent-job-syncs=40",
		"--node-monitor-grace-period=60s",
	}}
}

func (c *Cluster) scheduler() host.Command {
	return host.Command{Args: []string{
		c.bin("k8s"), "scheduler", "--config=" + c.config("scheduler.yaml"), "--secure-port=0",
	}}
}

func (c *Cluster) coreDNS() host.Command {
	return host.Command{Args: []string{c.bin("coredns"), "-conf", c.config("Corefile")}}
}

// serverIP is where the API server listens.
func (c *Cluster) serverIP() string {
	if c.options.Nodes == 0 {
		return "127.0.0.1"
	}
	return hostIP().String()
}

// AuditLog is the file of the API server's audit log, one JSON event a line.
func (c *Cluster) AuditLog() string { return c.log("audit") }

func (c *Cluster) bin(name string) string    { return filepath.Join(c.options.Bin, name) }
func (c *Cluster) pki(name string) string    { return filepath.Join(c.options.Dir, "pki", name) }
func (c *Cluster) config(name string) string { return filepath.Join(c.options.Dir, "config", name) }
func (c *Cluster) log(name string) string    { return filepath.Join(c.options.Dir, "log", name+".log") }

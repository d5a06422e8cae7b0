package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/e2e/images"
)

// Cluster is a running cluster.
type Cluster struct {
	options Options
	ports   ports
	host    *host.Host
	server  *rest.Config
	client  kubernetes.Interface
	began   time.Time
}

// Start starts a cluster and returns when it is ready, in seconds. What an
// earlier cluster in the same folder left is removed first.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	h, err := host.Create(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: o, host: h, began: time.Now()}
	if err := c.up(ctx); err != nil {
		return nil, errors.Join(
			fmt.Errorf("start the cluster in %s: %w", o.Dir, err),
			h.Undo(context.WithoutCancel(ctx)),
		)
	}
	if o.Detach {
		return c, h.Release()
	}
	return c, nil
}

// Open returns the cluster that another process started in the folder.
func Open(dir string) (*Cluster, error) {
	d, err := readDescription(dir)
	if err != nil {
		return nil, err
	}
	h, err := host.Open(dir)
	if err != nil {
		return nil, err
	}
	d.Options.Log = func(string, ...any) {}
	c := &Cluster{options: d.Options, ports: d.Ports, host: h, began: time.Now()}
	return c, c.connect()
}

// Stop ends the cluster and takes back all that it made on this machine; its
// files, with the logs, stay in its folder.
func (c *Cluster) Stop(ctx context.Context) error { return c.host.Undo(ctx) }

// Down does what Stop does for the cluster in a folder, and removes the folder:
// for its owner itself, and for anybody once the owner has detached the cluster
// or is dead. There may be none.
func Down(ctx context.Context, dir string) error { return host.Remove(ctx, dir) }

// Kubeconfig is the file with the admin's credentials.
func (c *Cluster) Kubeconfig() string { return c.pki("admin.kubeconfig") }

// Bin is the folder of the cluster's binaries; its k8s is kubectl, too.
func (c *Cluster) Bin() string { return c.options.Bin }

// Config are the admin's credentials, without a limit of requests. The caller
// may change it.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.server) }

// Client is a client with the admin's credentials.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Host is this machine, to put more beside the cluster: bridges, namespaces and
// processes that go when the cluster goes.
func (c *Cluster) Host() *host.Host { return c.host }

// up starts everything, what does not wait for another side by side.
func (c *Cluster) up(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	serverUp := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.startControlPlane(ctx, serverUp) })
	for n := range c.nodes() {
		group.Go(func() error { return c.startNode(ctx, n, serverUp) })
	}
	return group.Wait()
}

// prepare writes the cluster's files and makes its network.
func (c *Cluster) prepare() error {
	want := []*int{&c.ports.EtcdClient, &c.ports.EtcdPeer, &c.ports.Server}
	if c.options.Nodes > 0 {
		c.ports.Server = serverPort
		if err := c.host.AddBridge(Bridge, netip.MustParsePrefix(HostAddress)); err != nil {
			return err
		}
		if err := c.host.SaveSysctls(kubeletSysctls...); err != nil {
			return err
		}
	}
	if err := choosePorts(want...); err != nil {
		return err
	}
	var nodes []string
	for n := range c.nodes() {
		nodes = append(nodes, n.name())
	}
	ips := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(c.serverIP()), net.ParseIP(serverService)}
	url := fmt.Sprintf("https://%s", net.JoinHostPort(c.serverIP(), fmt.Sprint(c.ports.Server)))
	if err := writePKI(c.pki(""), url, ips, nodes); err != nil {
		return err
	}
	if err := c.writeConfig(c.config(""), nodeFiles{}, "scheduler.yaml", "audit.yaml", "Corefile"); err != nil {
		return err
	}
	if err := (description{Options: c.options, Ports: c.ports}).write(); err != nil {
		return err
	}
	return c.connect()
}

func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit
	c.server = config
	c.client, err = kubernetes.NewForConfig(config)
	return err
}

func (c *Cluster) startControlPlane(ctx context.Context, serverUp chan<- struct{}) error {
	if err := c.Component(Etcd).start(ctx); err != nil {
		return err
	}
	if err := c.Component(APIServer).start(ctx); err != nil {
		return err
	}
	c.say("the API server is ready")
	close(serverUp)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer c.say("the controllers run")
		return c.Component(ControllerManager).start(ctx)
	})
	group.Go(func() error { return c.Component(Scheduler).start(ctx) })
	if c.options.Nodes > 0 {
		group.Go(func() error {
			if err := c.installDNS(ctx); err != nil {
				return err
			}
			defer c.say("DNS answers")
			return c.Component(CoreDNS).start(ctx)
		})
	}
	return group.Wait()
}

func (c *Cluster) startNode(ctx context.Context, n node, serverUp <-chan struct{}) error {
	if err := c.prepareNode(n); err != nil {
		return fmt.Errorf("%s: %w", n.name(), err)
	}
	if err := c.host.AddRoute(host.Route{To: n.pods(), Via: n.ip()}); err != nil {
		return err
	}
	for _, name := range []string{n.name(), n.name() + "/containerd"} {
		if err := c.Component(name).start(ctx); err != nil {
			return err
		}
	}
	pause := c.nodeDir(n) + "/pause.tar"
	if err := images.Pause(c.bin("pause"), PauseImage, pause); err != nil {
		return err
	}
	if err := c.importInto(ctx, n, pause); err != nil {
		return err
	}
	select {
	case <-serverUp:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, name := range []string{n.name() + "/proxy", n.name() + "/kubelet"} {
		if err := c.Component(name).start(ctx); err != nil {
			return err
		}
	}
	c.say("%s is ready", n.name())
	return nil
}

// say reports progress.
func (c *Cluster) say(format string, args ...any) {
	c.options.Log("%4.1fs %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

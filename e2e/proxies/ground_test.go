package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/e2e/lab"
)

// The places of the picture, as network namespaces.
const (
	agentsPlace  = "tr-px-agents"
	openPlace    = "tr-px-open"
	proxiesPlace = "tr-px-proxies"
	relayPlace   = "tr-px-relay"

	siteBridge  = "tr-px-site"
	cloudBridge = "tr-px-cloud"
)

const (
	siteIP      = "10.77.0.1" // this machine
	cloudIP     = "10.78.0.1"
	agentsIP    = "10.77.0.2"
	proxiesIP   = "10.77.0.3"
	openIP      = "10.77.0.4"
	nobodyIP    = "10.77.0.99"
	relayIP     = "10.78.0.2"
	serverPort  = 6443 // of the API server, on siteIP
	relayDomain = "trainrelay.test"
	relayName   = "relay." + relayDomain
	otherName   = "other." + relayDomain // leads to the relay, whose certificate is not for it
)

// names are what resolves for proxies, and for agents in the open place.
var names = map[string]string{relayName: relayIP, otherName: relayIP, natsName: cloudIP, brokerName: relayIP}

// ground is the networks, the API server and the relay.
type ground struct {
	repo, dir string
	site      *cluster.Cluster
	host      *host.Host
	relay     *relay
	forward   net.Listener // to the API server
	running   sync.WaitGroup
}

// newGround makes all of it. What it returns is to be removed after an error, too.
func newGround(ctx context.Context) (g *ground, err error) {
	g = &ground{}
	if g.repo, err = filepath.Abs("../.."); err != nil {
		return g, err
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if err := host.EnsurePackages(ctx, log, "squid-openssl", "tinyproxy-bin", "microsocks", "dante-server", "openssl"); err != nil {
		return g, err
	}
	g.dir = lab.ProxiesFolder
	if err := cluster.Down(ctx, g.path("cluster")); err != nil {
		return g, fmt.Errorf("take away what an earlier run left: %w", err)
	}
	if err := errors.Join(os.RemoveAll(g.dir), os.MkdirAll(g.dir, 0o755)); err != nil {
		return g, err
	}
	g.site, err = cluster.Start(ctx, cluster.Options{Dir: g.path("cluster"), Bin: filepath.Join(g.repo, "bin", "cluster")})
	if err != nil {
		return g, err
	}
	g.host = g.site.Host()
	if err := g.network(); err != nil {
		return g, err
	}
	if err := g.forwardServer(ctx); err != nil {
		return g, err
	}
	if err := g.prepareCluster(ctx); err != nil {
		return g, err
	}
	g.relay, err = startRelay(ctx, g, "relay", relayPort)
	return g, err
}

func (g *ground) remove(ctx context.Context) error {
	if g.forward != nil {
		g.forward.Close()
	}
	if g.relay != nil {
		g.relay.Close()
	}
	err := cluster.Down(ctx, g.path("cluster"))
	g.running.Wait()
	if err != nil {
		return err
	}
	return os.RemoveAll(g.dir)
}

func (g *ground) path(elem ...string) string {
	return filepath.Join(append([]string{g.dir}, elem...)...)
}

func (g *ground) bin(name string) string { return filepath.Join(g.repo, "bin", name) }

// network makes bridges and places.
func (g *ground) network() error {
	prefix := func(ip string) netip.Prefix { return netip.MustParsePrefix(ip + "/24") }
	if err := errors.Join(g.host.AddBridge(siteBridge, prefix(siteIP)), g.host.AddBridge(cloudBridge, prefix(cloudIP))); err != nil {
		return err
	}
	for _, place := range []string{agentsPlace, openPlace, proxiesPlace, relayPlace} {
		if err := g.host.AddNamespace(place); err != nil {
			return err
		}
	}
	for _, leg := range []host.Leg{
		{Namespace: agentsPlace, Interface: "site", Bridge: siteBridge, Address: prefix(agentsIP)},
		{Namespace: proxiesPlace, Interface: "site", Bridge: siteBridge, Address: prefix(proxiesIP)},
		{Namespace: proxiesPlace, Interface: "cloud", Bridge: cloudBridge, Address: prefix("10.78.0.3")},
		{Namespace: openPlace, Interface: "site", Bridge: siteBridge, Address: prefix(openIP)},
		{Namespace: openPlace, Interface: "cloud", Bridge: cloudBridge, Address: prefix("10.78.0.4")},
		{Namespace: relayPlace, Interface: "cloud", Bridge: cloudBridge, Address: prefix(relayIP)},
	} {
		if err := g.host.AddLeg(leg); err != nil {
			return err
		}
	}
	return nil
}

// forwardServer brings the API server, which listens on loopback, to the site.
func (g *ground) forwardServer(ctx context.Context) error {
	server, err := url.Parse(g.site.Config().Host)
	if err != nil {
		return err
	}
	g.forward, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(siteIP, fmt.Sprint(serverPort)))
	if err != nil {
		return err
	}
	g.running.Go(func() {
		for {
			near, err := g.forward.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server.Host)
			if err != nil {
				near.Close()
				continue
			}
			g.running.Go(func() { pipe(near, far) })
			g.running.Go(func() { pipe(far, near) })
		}
	})
	return nil
}

// pipe copies until one side is gone, and closes both.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // whichever side goes, the agent notices
	to.Close()
	from.Close()
}

// command is a program in one of the places.
type command struct {
	name  string // unique
	place string
	hosts map[string]string // what names resolve to
	files map[string]string // more files that look different to it: path to content
	env   []string
	args  []string
}

// enter runs its arguments behind "--" with the files before it in place of
// others, in a mount namespace of its own.
const enter = `mount --make-rprivate / || exit
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done
shift; exec "$@"`

// start runs a program to which nothing resolves but its hosts.
func (g *ground) start(ctx context.Context, c command) (*host.Process, error) {
	dir := g.path("run", c.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	files := map[string]string{
		// Nobody answers there.
		"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		"/etc/hosts":       "127.0.0.1 localhost\n",
	}
	for name, ip := range c.hosts {
		files["/etc/hosts"] += ip + " " + name + "\n"
	}
	maps.Copy(files, c.files)
	args := []string{"/bin/sh", "-c", enter, "sh"}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		own := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(own, []byte(files[path]), 0o644); err != nil {
			return nil, err
		}
		args = append(args, own, path)
	}
	return g.host.Start(ctx, host.Command{
		Name: c.name, Args: append(append(args, "--"), c.args...), Env: c.env, Dir: dir,
		Log: g.log(c.name), In: host.Space{Net: c.place}, First: true,
	})
}

func (g *ground) log(name string) string { return g.path("log", name+".log") }

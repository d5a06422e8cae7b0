package lab

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// Network namespaces and the bridge of the cloud's side.
const (
	cloudBridge    = "tr-cloud"
	relayNamespace = "tr-relay"
	proxyNamespace = "tr-squid"
)

// startCloud makes the networks beyond the site, squid between them and the
// cluster, and starts the relay.
func (l *Lab) startCloud(ctx context.Context) error {
	l.opts.say("starting the relay and squid in networks of their own")
	if err := l.host.AddBridge(cloudBridge, prefix(cloudIP)); err != nil {
		return err
	}
	for _, namespace := range []string{relayNamespace, proxyNamespace} {
		if err := l.host.AddNamespace(namespace); err != nil {
			return err
		}
	}
	for _, leg := range []host.Leg{
		{Namespace: relayNamespace, Interface: "eth0", Bridge: cloudBridge, Address: prefix(cloudRelayIP)},
		{Namespace: proxyNamespace, Interface: "cloud", Bridge: cloudBridge, Address: prefix(cloudProxyIP)},
		{Namespace: proxyNamespace, Interface: "site", Bridge: cluster.Bridge, Address: prefix(siteProxyIP), Routes: l.cluster.PodRoutes()},
	} {
		if err := l.host.AddLeg(leg); err != nil {
			return err
		}
	}
	l.proxyPassword = secret()
	if err := writeSquid(ctx, squidFolder(l.opts), l.proxyPassword); err != nil {
		return err
	}
	if err := os.Symlink(squidFolder(l.opts), l.path("squid")); err != nil {
		return err
	}
	if err := l.startProxy(ctx); err != nil {
		return err
	}
	return l.startRelay(ctx)
}

func prefix(ip string) netip.Prefix { return netip.MustParsePrefix(ip + "/24") }

func (l *Lab) startProxy(ctx context.Context) error {
	_, err := l.host.Start(ctx, host.Command{
		Name:   "squid",
		Args:   []string{"/usr/sbin/squid", "-N", "-f", squidFolder(l.opts) + "/squid.conf"},
		Dir:    squidFolder(l.opts),
		Log:    l.path("log", "squid.log"),
		In:     host.Space{Net: proxyNamespace},
		Detach: l.opts.Detach,
	})
	if err != nil {
		return err
	}
	return waitUntil(ctx, "squid listens", func(ctx context.Context) error { return dials(ctx, siteProxyIP, proxyPort) })
}

func (l *Lab) startRelay(ctx context.Context) error {
	_, err := l.host.Start(ctx, host.Command{
		Name: "relay",
		Args: []string{l.opts.bin("trainrelay"), "serve", "--data", l.path("relay"),
			"--listen", l.RelayAddr, "--host", cloudRelayIP, "--host", relayHost, "--log-level", "debug"},
		Log:    l.path("log", "relay.log"),
		In:     host.Space{Net: relayNamespace},
		Detach: l.opts.Detach,
	})
	if err != nil {
		return err
	}
	return waitUntil(ctx, "the relay is ready", l.relayReady)
}

// ClientConfig is what the CLI needs to reach the relay.
func (l *Lab) ClientConfig() string { return filepath.Join(l.Dir, "relay", "client.json") }

// prog names a program of the cluster.
func (l *Lab) prog(name string) string { return l.opts.bin(filepath.Join("cluster", name)) }

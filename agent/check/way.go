package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/trainrelay/trainrelay/internal/dial"
)

// settingsFix is for what is wrong in the settings.
const settingsFix = "correct the chart's value, the flag or the variable that it names, and upgrade the chart"

// direct is what a dialer says of a route without a proxy.
const direct = "direct"

// settings understands what the agent is told to do.
func (c *checker) settings(context.Context) (found string, err error) {
	if c.o.Settings != nil {
		return "", &fault{c.o.Settings, settingsFix}
	}
	if c.o.Relay == nil || c.o.Relay.Hostname() == "" {
		return "", faulty(settingsFix, "no URL of the relay; expected https://host[:port]")
	}
	if c.dialer, err = dial.New(c.o.Dial); err != nil {
		return "", &fault{err, settingsFix}
	}
	port := cmp.Or(c.o.Relay.Port(), map[string]string{"https": "443", "http": "80"}[c.o.Relay.Scheme])
	c.addr = net.JoinHostPort(c.o.Relay.Hostname(), port)
	found = fmt.Sprintf("relay %s %s", c.addr, c.way(c.addr))
	if n := c.o.NATS; n != nil {
		c.nats = net.JoinHostPort(n.Hostname(), cmp.Or(n.Port(), "4222"))
		found += fmt.Sprintf("; its NATS server %s %s", c.nats, c.way(c.nats))
	}
	return fmt.Sprintf("%s; jobs may run in %s", found, strings.Join(c.o.Computes, ", ")), nil
}

// proxyTo is the proxy to an address, without who uses it; nil for none.
func (c *checker) proxyTo(addr string) *url.URL {
	route := c.dialer.Route(addr)
	if route == direct {
		return nil
	}
	proxy, err := url.Parse(route)
	if err != nil { // it is a URL that was printed
		return nil
	}
	return proxy
}

func (c *checker) way(addr string) string {
	if proxy := c.proxyTo(addr); proxy != nil {
		return "through proxy " + proxy.String()
	}
	return "directly"
}

// noProxy says what goes past the proxy, and that what no proxy can reach does.
func (c *checker) noProxy(context.Context) (string, error) {
	if c.o.Dial.HTTPSProxy == "" && c.o.Dial.HTTPProxy == "" {
		return "no proxy is set; everything is reached directly", nil
	}
	inside := []string{"kubernetes.default.svc:443"}
	if c.o.Kube != nil {
		server, err := apiServerAddr(c.o.Kube.Host)
		if err != nil {
			return "", &fault{err, settingsFix}
		}
		inside = append(inside, server)
	}
	for _, addr := range inside {
		if route := c.dialer.Route(addr); route != direct {
			host, _, _ := net.SplitHostPort(addr)
			return "", faulty("add "+host+" to proxy.noProxy (NO_PROXY)",
				"%s, inside the cluster, would be reached through proxy %s", addr, route)
		}
	}
	found := "direct: " + strings.Join(inside, ", ")
	if c.o.Dial.NoProxy != "" {
		found += "; by NO_PROXY also " + c.o.Dial.NoProxy
	}
	if c.proxyTo(c.addr) == nil {
		found += "; NO_PROXY covers the relay too, which goes past the proxy"
	}
	if c.nats != "" && c.proxyTo(c.nats) == nil {
		found += "; NO_PROXY covers its NATS server too, which goes past the proxy"
	}
	return found, nil
}

// apiServerAddr is host:port of what client-go calls a host.
func apiServerAddr(host string) (string, error) {
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	at, err := url.Parse(host)
	if err != nil || at.Hostname() == "" {
		return "", errors.New("the address of the API server is not a URL")
	}
	return net.JoinHostPort(at.Hostname(), cmp.Or(at.Port(), "443")), nil
}

// clusterDNS resolves what every cluster has.
func clusterDNS(ctx context.Context) (string, error) {
	const name = "kubernetes.default.svc"
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return "", faulty("training pods would not find the agent's gateway either: look at the cluster's DNS, such as `kubectl --namespace kube-system get pods --selector k8s-app=kube-dns`",
			"%s does not resolve: %w", name, err)
	}
	return name + " is " + strings.Join(addrs, ", "), nil
}

// dns resolves what has to be resolved to reach the relay.
func (c *checker) dns(ctx context.Context) (string, error) {
	return c.resolve(ctx, c.addr, "relay", "relay.url")
}

// resolve resolves what has to be resolved here: the proxy's name, or the
// target's where no proxy does that. value is where the target's stands.
func (c *checker) resolve(ctx context.Context, addr, target, value string) (string, error) {
	host, _, _ := net.SplitHostPort(addr) // settings has joined it
	whose, fix, tail := target, "check "+value+" and the DNS of this node; where names outside are known only to a proxy, set proxy.https", ""
	if proxy := c.proxyTo(addr); proxy != nil {
		host, whose, fix = proxy.Hostname(), "proxy", "check the name in proxy.https (HTTPS_PROXY) and the DNS of this node"
		tail = fmt.Sprintf("; the %s's name is the proxy's to resolve, it need not resolve here", target)
	}
	if net.ParseIP(host) != nil {
		return fmt.Sprintf("the %s is given by its address%s", whose, tail), nil
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", faulty(fix, "the %s's name %s does not resolve here: %w", whose, host, err)
	}
	return fmt.Sprintf("the %s %s is %s%s", whose, host, strings.Join(addrs, ", "), tail), nil
}

// proxy opens a connection to the relay: TCP to the proxy, TLS with it,
// authentication, and the tunnel, or just TCP without one.
func (c *checker) proxy(ctx context.Context) (string, error) {
	conn, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return "", undialed(err, "check proxy.https (HTTPS_PROXY), and that the proxy lets this node through to "+c.addr)
	}
	_ = conn.Close()
	proxy := c.proxyTo(c.addr)
	if proxy == nil {
		return "none is used; " + c.addr + " takes connections", nil
	}
	return fmt.Sprintf("%s opens a tunnel to %s", proxy, c.addr), nil
}

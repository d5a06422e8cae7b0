// Package dial opens connections to the outside: the one place where the agent
// and the command line do so. A site often lets its machines out only through
// a proxy, so every connection is either a tunnel through the proxy that the
// settings name (HTTP CONNECT over http or https, or SOCKS5), or direct
// because the settings say so.
//
// It guarantees that a configured proxy is never silently passed by: settings
// that cannot be understood are an error of [New], and what a proxy refuses
// fails. The name of the target is resolved by the proxy, never here. Every
// connection is there or has failed within [Options.Timeout], whatever the
// other side does.
//
// Failures are of type [*Error]: the stage that failed, the proxy, the target
// and what to do about it. No error, route or log line contains a user's name or
// a password.
package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// DefaultTimeout bounds the opening of one connection.
const DefaultTimeout = 10 * time.Second

// DefaultPings find a connection dead within half a minute.
var DefaultPings = Pings{After: 15 * time.Second, Timeout: 10 * time.Second}

// Pings say how an HTTP/2 connection is kept: one that a proxy or a firewall
// has forgotten takes requests for many minutes and answers none.
type Pings struct {
	After   time.Duration // how long it is silent before it is pinged
	Timeout time.Duration // how long the answer may take before it is closed
}

// HTTP2 is what net/http takes; of DefaultPings for the zero value.
func (p Pings) HTTP2() *http.HTTP2Config {
	p = cmp.Or(p, DefaultPings)
	return &http.HTTP2Config{SendPingTimeout: p.After, PingTimeout: p.Timeout}
}

// Options of a dialer. The zero value dials directly.
type Options struct {
	// HTTPSProxy is the proxy, as scheme://[user:password@]host[:port] with
	// scheme http, https, socks5 or socks5h; http when missing. Special
	// characters of user and password are percent-encoded.
	HTTPSProxy string
	// HTTPProxy is the proxy where HTTPSProxy is empty: everything is
	// tunnelled, so that one proxy serves all.
	HTTPProxy string
	// NoProxy lists, separated by commas, what is reached directly: hosts
	// (with their subdomains), .suffixes, addresses, CIDR ranges, each but the
	// last with an optional port; or "*" for everything. Loopback, .svc and
	// .cluster.local are always in it.
	NoProxy string
	// AlwaysDirect are more hosts of that kind, which the site's settings
	// cannot know, such as the Kubernetes API server.
	AlwaysDirect []string
	// ProxyCA (PEM) is trusted for https proxies, beside the system's roots.
	ProxyCA []byte
	// RootCAs (PEM) are trusted for targets, beside the system's roots.
	RootCAs []byte
	// Timeout bounds the opening of one connection, with all its handshakes;
	// 0 for DefaultTimeout.
	Timeout time.Duration
	// Pings of a Transport's connections.
	Pings Pings
}

// FromEnviron reads the options from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, of
// which the lower-case forms win, and takes the API server's address from
// KUBERNETES_SERVICE_HOST.
func FromEnviron(getenv func(string) string) Options {
	opts := Options{
		HTTPSProxy: cmp.Or(getenv("https_proxy"), getenv("HTTPS_PROXY")),
		HTTPProxy:  cmp.Or(getenv("http_proxy"), getenv("HTTP_PROXY")),
		NoProxy:    cmp.Or(getenv("no_proxy"), getenv("NO_PROXY")),
	}
	if host := getenv("KUBERNETES_SERVICE_HOST"); host != "" {
		opts.AlwaysDirect = []string{host}
	}
	return opts
}

// Dialer opens connections; safe for concurrent use.
type Dialer struct {
	proxy    *url.URL // nil without a proxy
	direct   func(addr string) bool
	proxyTLS *tls.Config
	rootCAs  *x509.CertPool // nil for the system's
	timeout  time.Duration
	pings    Pings
	net      net.Dialer
}

// New checks the options. Its errors name the option at fault.
func New(opts Options) (*Dialer, error) {
	proxy, err := parseProxy("https proxy", opts.HTTPSProxy)
	if err != nil {
		return nil, err
	}
	fallback, err := parseProxy("http proxy", opts.HTTPProxy)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		proxy = fallback
	}
	direct, err := directRule(opts.NoProxy, opts.AlwaysDirect)
	if err != nil {
		return nil, err
	}
	proxyCAs, err := withSystem("proxy CA", opts.ProxyCA)
	if err != nil {
		return nil, err
	}
	rootCAs, err := withSystem("root CAs", opts.RootCAs)
	if err != nil {
		return nil, err
	}
	return &Dialer{
		proxy:    proxy,
		direct:   direct,
		proxyTLS: &tls.Config{RootCAs: proxyCAs, MinVersion: tls.VersionTLS12},
		rootCAs:  rootCAs,
		timeout:  cmp.Or(opts.Timeout, DefaultTimeout),
		pings:    opts.Pings,
	}, nil
}

// withSystem is the system's roots and those of the PEM; nil, which stands for
// the system's, without PEM.
func withSystem(option string, pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("%s: read the system's certificates: %w", option, err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate found; expected PEM (-----BEGIN CERTIFICATE-----)", option)
	}
	return pool, nil
}

// DialContext opens a TCP connection to addr (host:port), through the proxy
// unless addr is to be reached directly.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, d.explain(ctx, addr, err)
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, &Error{Stage: StageConnect, Hint: "expected host:port", Err: errors.New("not an address")}
	}
	proxy := d.proxyFor(addr)
	switch {
	case proxy == nil:
		return d.net.DialContext(ctx, network, addr)
	case proxy.Scheme == "socks5" || proxy.Scheme == "socks5h":
		return d.dialSOCKS(ctx, proxy, addr)
	default:
		return d.dialCONNECT(ctx, proxy, addr)
	}
}

// DialTLS is DialContext followed by a TLS handshake with addr. A nil config
// stands for TLSConfig; the server's name is taken from addr when missing. The
// connection is a *tls.Conn.
func (d *Dialer) DialTLS(ctx context.Context, addr string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if config == nil {
		config = d.TLSConfig()
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr) // DialContext checks it
	}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, d.explain(ctx, addr, &Error{Stage: StageTLS, Err: err})
	}
	return conn, nil
}

// TLSConfig is a new configuration that trusts Options.RootCAs.
func (d *Dialer) TLSConfig() *tls.Config {
	return &tls.Config{RootCAs: d.rootCAs, MinVersion: tls.VersionTLS12}
}

// Transport is a new HTTP transport on the dialer: the proxy is the dialer's
// business, never net/http's.
func (d *Dialer) Transport() *http.Transport {
	config := d.TLSConfig()
	config.NextProtos = []string{"h2", "http/1.1"}
	return &http.Transport{
		DialContext: d.DialContext,
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return d.DialTLS(ctx, addr, config)
		},
		ForceAttemptHTTP2:      true,
		HTTP2:                  d.pings.HTTP2(),
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  time.Minute,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Route says how addr (host:port) is reached: "direct", or the proxy's URL
// without user and password.
func (d *Dialer) Route(addr string) string {
	if proxy := d.proxyFor(addr); proxy != nil {
		return shown(proxy)
	}
	return "direct"
}

// shown is a proxy's URL without user and password: a user's name may be a
// person's, or a token.
func shown(proxy *url.URL) string {
	bare := *proxy
	bare.User = nil
	return bare.String()
}

func (d *Dialer) proxyFor(addr string) *url.URL {
	if d.proxy == nil || d.direct(addr) {
		return nil
	}
	return d.proxy
}

// Package testkit has the other side for tests that talk to the network: a
// CONNECT proxy in process, real squid, tinyproxy and microsocks on loopback, and
// a certificate authority. It is for tests only; whatever it starts is stopped
// and waited for when the test ends, and what it cannot start fails the test,
// or skips it where a program is not installed.
package testkit

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// ProxyOptions of a CONNECT proxy. The zero value lets everybody everywhere.
type ProxyOptions struct {
	// User and Password are wanted when User is not empty.
	User, Password string
	// Hosts maps targets (host:port) to the addresses to dial for them: the
	// names that only the proxy can resolve.
	Hosts map[string]string
	// Denied targets (host:port) are answered 403.
	Denied []string
	// TLS is spoken with the proxy's clients when not nil.
	TLS *tls.Config
	// Authority does for squid what TLS does for a Proxy.
	Authority *Authority
}

// Proxy is a CONNECT proxy in process.
type Proxy struct {
	Addr string // host:port
	opts ProxyOptions

	mu      sync.Mutex
	targets []string
	tunnels map[net.Conn]bool // false where nothing comes through any more
	running sync.WaitGroup
}

// StartProxy runs a proxy on loopback until the test ends.
func StartProxy(t testing.TB, opts ProxyOptions) *Proxy {
	t.Helper()
	p := &Proxy{opts: opts, tunnels: make(map[net.Conn]bool)}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if opts.TLS != nil {
		server.TLS = opts.TLS
		server.StartTLS()
	} else {
		server.Start()
	}
	p.Addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Targets are the tunnels that were asked for and not refused, in order.
func (p *Proxy) Targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.targets)
}

// Cut closes all tunnels, as a proxy does that is restarted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.tunnels {
		_ = conn.Close()
	}
}

// Freeze lets nothing more through the tunnels that there are, and closes none:
// each side believes the other one there, as behind a firewall that has
// forgotten the connection.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.tunnels {
		p.tunnels[conn] = false
	}
}

// ServeHTTP answers CONNECT.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodConnect:
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
	case p.opts.User != "" && r.Header.Get("Proxy-Authorization") != basic(p.opts.User, p.opts.Password):
		w.Header().Set("Proxy-Authenticate", `Basic realm="testkit"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
	case slices.Contains(p.opts.Denied, r.Host):
		http.Error(w, "not there", http.StatusForbidden)
	default:
		p.tunnel(w, r.Host)
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (p *Proxy) tunnel(w http.ResponseWriter, target string) {
	out, err := net.Dial("tcp", cmp.Or(p.opts.Hosts[target], target))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = out.Close()
		return
	}
	p.mu.Lock()
	p.targets = append(p.targets, target)
	p.tunnels[in], p.tunnels[out] = true, true
	p.mu.Unlock()
	p.running.Go(func() { p.pipe(out, buffered.Reader, in) })
	p.running.Go(func() {
		_, _ = fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n")
		p.pipe(in, bufio.NewReader(out), out)
	})
}

// pipe copies until one side is gone, then closes both.
func (p *Proxy) pipe(dst net.Conn, src io.Reader, origin net.Conn) {
	_, _ = io.Copy(lane{p, dst}, src)
	_ = dst.Close()
	_ = origin.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tunnels, dst)
	delete(p.tunnels, origin)
}

// lane is a way through a tunnel.
type lane struct {
	p   *Proxy
	dst net.Conn
}

func (l lane) Write(data []byte) (int, error) {
	l.p.mu.Lock()
	open, known := l.p.tunnels[l.dst]
	l.p.mu.Unlock()
	if known && !open {
		return len(data), nil
	}
	return l.dst.Write(data)
}

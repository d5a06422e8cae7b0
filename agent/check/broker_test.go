package check

import (
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/trainrelay/trainrelay/internal/testkit"
)

// startNATS runs a NATS server of one's own, with a certificate of the
// authority for nats.test.
func startNATS(t *testing.T, authority *testkit.Authority) (addr string) {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true}
	if authority != nil {
		opts.TLSConfig = authority.Server("nats.test")
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return ns.Addr().String()
}

// refusing is the address of what takes connections and wants none, as a
// gateway for HTTP.
func refusing(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// TestNATSServer: with relay.natsURL it is the NATS server's name and way that
// are checked, and what is said is about them.
func TestNATSServer(t *testing.T) {
	f := newFront(t, "127.0.0.1")
	bare, secured, strange := startNATS(t, nil), startNATS(t, f.authority), startNATS(t, testkit.NewAuthority(t))
	notNATS := refusing(t)
	named := func(addr string) string { // by a name that only the proxy knows
		_, port, _ := net.SplitHostPort(addr)
		return "nats.test:" + port
	}
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: map[string]string{named(secured): secured, "nats.test:4222": secured, named(strange): strange}})
	through := func(o *Options) { o.Dial.HTTPSProxy = "http://" + proxy.Addr }
	for _, tc := range []struct {
		name, scheme, host string
		change             func(*Options)
		detail, fix        string // no fix where it is in order
	}{
		{"directly", "nats", bare, nil, "connected directly to nats://" + bare, ""},
		{"through a proxy", "tls", named(secured), through, "connected through proxy http://" + proxy.Addr + " to tls://" + named(secured), ""},
		{"without a port", "tls", "nats.test", through, " to tls://nats.test:4222", ""},
		{"a name that does not resolve", "tls", "nats.invalid:4222", nil, "the NATS server's name nats.invalid does not resolve here", "check relay.natsURL"},
		{"an unknown authority", "tls", named(strange), through, "unknown authority", "relay.caBundle"},
		{"what is no NATS server", "nats", notNATS, nil, "", "let through connections that are not HTTP to " + notNATS},
		{"what is no NATS server, with TLS", "tls", notNATS, nil, "", "let through TLS that is not HTTPS to " + notNATS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := f.options(t)
			o.NATS = &url.URL{Scheme: tc.scheme, Host: tc.host}
			if tc.change != nil {
				tc.change(&o)
			}
			check := f.run(t, o)
			if r := result(t, check, "websocket"); r.OK != (tc.fix == "") || r.Skipped || !strings.Contains(r.Detail, tc.detail) || !strings.Contains(r.Fix, tc.fix) {
				t.Errorf("%+v", r)
			}
			host := tc.host
			if !strings.Contains(host, ":") {
				host += ":4222"
			}
			if r := result(t, check, "settings"); !strings.Contains(r.Detail, "its NATS server "+host) {
				t.Errorf("%+v", r)
			}
		})
	}
}

package check

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestAllInOrder: every check passes, directly and through a proxy, and says
// what it found.
func TestAllInOrder(t *testing.T) {
	f := newFront(t, "127.0.0.1", "relay.test")
	policy := func() error { return nil }
	for name, tc := range map[string]struct {
		change func(*Options)
		want   map[string]string
	}{
		"directly": {func(o *Options) {}, map[string]string{
			"settings": "directly; jobs may run in train", "no-proxy": "no proxy is set", "dns": "by its address", "proxy": "none is used",
			"tls": "signed by test authority", "clock": "as the relay's", "credentials": "as cluster onprem", "websocket": "connected directly", "policy": "in force"}},
		"through a proxy": {func(o *Options) { through(t, f, o); o.Dial.NoProxy = "10.0.0.0/8" }, map[string]string{
			"settings": "through proxy http://127.0.0.1:", "no-proxy": "by NO_PROXY also 10.0.0.0/8", "dns": "need not resolve here",
			"proxy": "opens a tunnel to relay.test:", "tls": "the relay's own authority", "websocket": "connected through proxy"}},
		"past a proxy": {func(o *Options) {
			o.Dial.HTTPSProxy, o.Dial.NoProxy = "http://proxy.invalid:3128", "127.0.0.1"
		}, map[string]string{"no-proxy": "NO_PROXY covers the relay too", "proxy": "none is used"}},
		"a clock that is half a minute off": {func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(-45 * time.Second) }
		}, map[string]string{"clock": "warning: this node's clock is 45s behind the relay's"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := f.options(t)
			o.Policy = policy
			tc.change(&o)
			check := f.run(t, o)
			for _, r := range check.Results {
				if !r.OK || r.Fix != "" {
					t.Errorf("%+v", r)
				}
			}
			for of, words := range tc.want {
				if r := result(t, check, of); !strings.Contains(r.Detail, words) {
					t.Errorf("%s: %q does not say %q", of, r.Detail, words)
				}
			}
		})
	}
}

func result(t *testing.T, check *protocol.Check, name string) protocol.CheckResult {
	t.Helper()
	for _, r := range check.Results {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no check %s in %+v", name, check.Results)
	return protocol.CheckResult{}
}

// TestFaults: each check fails where what it looks at is broken for real, says
// so and what to do, and what depends on it is not tried. No word is of the
// proxy's password.
func TestFaults(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close() // nothing listens there now
	for _, tc := range []struct {
		name   string
		change func(*front, *Options)
		failed string
		detail string
		fix    string
		tried  string // another check that is tried all the same; empty for none
	}{
		{"settings that main found wrong", func(_ *front, o *Options) { o.Settings = errors.New("open /ca: no such file") },
			"settings", "no such file", "correct the chart's value", ""},
		{"a relay without a host", func(_ *front, o *Options) { o.Relay = &url.URL{Scheme: "https"} },
			"settings", "no URL of the relay", "correct the chart's value", ""},
		{"a proxy that is no URL", func(_ *front, o *Options) { o.Dial.HTTPSProxy = "ftp://agent:" + password + "@proxy" },
			"settings", "none of http, https, socks5", "correct the chart's value", ""},
		{"a NO_PROXY that nobody understands", func(_ *front, o *Options) { o.Dial.NoProxy = "10.0.0.*" },
			"settings", `no-proxy entry "10.0.0.*"`, "correct the chart's value", ""},
		{"an API server behind the proxy", func(_ *front, o *Options) {
			o.Dial.HTTPSProxy, o.Dial.NoProxy = "http://"+dead.Addr().String(), "relay.test"
			o.Kube = &rest.Config{Host: "https://api.site.test:6443"}
		}, "no-proxy", "api.site.test:6443, inside the cluster, would be reached through proxy", "add api.site.test to proxy.noProxy", "proxy"},
		{"a proxy whose name does not resolve", func(_ *front, o *Options) {
			o.Relay.Host, o.Dial.HTTPSProxy = "relay.test", "http://proxy.invalid:3128"
		}, "dns", "the proxy's name proxy.invalid does not resolve here", "check the name in proxy.https", "settings"},
		{"a relay whose name does not resolve", func(_ *front, o *Options) { o.Relay.Host = "relay.invalid" },
			"dns", "the relay's name relay.invalid does not resolve", "set proxy.https", "settings"},
		{"a proxy that is dead", func(_ *front, o *Options) {
			o.Relay.Host, o.Dial.HTTPSProxy = "relay.test", "http://"+dead.Addr().String()
		}, "proxy", "connection refused", "is the proxy running", "dns"},
		{"a relay that is dead", func(_ *front, o *Options) { o.Relay.Host = dead.Addr().String() },
			"proxy", "connection refused", "is the other side running", "dns"},
		{"a password that is wrong", func(f *front, o *Options) {
			through(t, f, o)
			o.Dial.HTTPSProxy = strings.Replace(o.Dial.HTTPSProxy, ":"+password, ":"+password+"x", 1)
		}, "proxy", "407", "does not accept the user and password", "dns"},
		{"a proxy that refuses the relay", func(f *front, o *Options) {
			through(t, f, o, func(p *testkit.ProxyOptions) { p.Denied = []string{o.Relay.Host} })
		}, "proxy", "403", "allow CONNECT", "dns"},
		{"a TLS proxy of an unknown authority", func(f *front, o *Options) {
			through(t, f, o, func(p *testkit.ProxyOptions) { p.TLS = testkit.NewAuthority(t).Server("127.0.0.1") })
		}, "proxy", "unknown authority", "give it as the proxy's CA", "dns"},
		{"a relay of an unknown authority", func(_ *front, o *Options) { o.Dial.RootCAs = testkit.NewAuthority(t).PEM },
			"tls", "signed by test authority, is not trusted", "relay.caBundle", "proxy"},
		{"a relay under another name", func(f *front, o *Options) {
			o.Relay.Host = strings.Replace(f.addr, "127.0.0.1", "localhost", 1)
		}, "tls", "not localhost", "(relay.test, 127.0.0.1)", "proxy"},
		{"a certificate that has expired", func(_ *front, o *Options) {
			o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
		}, "tls", "expired", "renew it at the relay, or set the clock", "proxy"},
		{"a port without TLS", func(_ *front, o *Options) { o.Relay.Host = plain(t) },
			"tls", "first record does not look like a TLS handshake", "does not speak TLS at this port", "proxy"},
		{"a portal in the relay's place", func(f *front, _ *Options) {
			f.health = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in")) }
		}, "relay", "is not a relay: HTTP 200", "login page", "tls"},
		{"a relay that is going", func(f *front, _ *Options) {
			f.health = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		}, "relay", "HTTP 502", "login page", "tls"},
		{"a clock that is behind", func(_ *front, o *Options) {
			o.Now = func() time.Time { return time.Now().Add(-2 * time.Minute) }
		}, "clock", "this node's clock is 2m0s behind the relay's", "chrony", "relay"},
		{"a clock that is ahead", func(_ *front, o *Options) {
			o.Now = func() time.Time { return time.Now().Add(2 * time.Minute) }
		}, "clock", "this node's clock is 2m0s ahead of the relay's", "chrony", "relay"},
		{"an agent that has not joined", func(_ *front, o *Options) { o.Credentials = errors.New("the Secret is empty") },
			"credentials", "the Secret is empty", "cluster connect", "clock"},
		{"a key that the relay does not know", func(f *front, _ *Options) {
			other, err := nkeys.CreateUser()
			if err != nil {
				t.Fatal(err)
			}
			f.key = other
		}, "credentials", "of no cluster of this relay", "cluster connect", "clock"},
		{"a key of another cluster", func(_ *front, o *Options) { o.Cluster = "other" },
			"credentials", `the key is that of cluster "onprem", and this agent is set to be "other"`, "cluster connect", "clock"},
		{"a proxy that lets no WebSocket through", func(f *front, _ *Options) { f.noUpgrade = true },
			"websocket", "lets no WebSocket through", "the header Upgrade allowed", "credentials"},
		{"a policy that is broken", func(_ *front, o *Options) { o.Policy = func() error { return errors.New("line 3: imagess?") } },
			"policy", "line 3: imagess?", "chart's value policy", "websocket"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFront(t, "relay.test", "127.0.0.1")
			o := f.options(t)
			tc.change(f, &o)
			check := f.run(t, o)
			r := result(t, check, tc.failed)
			if r.OK || r.Skipped || !strings.Contains(r.Detail, tc.detail) || !strings.Contains(r.Fix, tc.fix) {
				t.Errorf("%+v, want %q and the fix %q", r, tc.detail, tc.fix)
			}
			if tc.tried != "" {
				if r := result(t, check, tc.tried); r.Skipped {
					t.Errorf("%+v", r)
				}
			}
			for _, r := range check.Results {
				if r.Name == tc.failed {
					continue
				}
				if !r.OK && (!r.Skipped || !strings.HasPrefix(r.Detail, "not tried: ")) {
					t.Errorf("failed as well: %+v", r)
				}
				if strings.Contains(r.Detail+r.Fix, password) {
					t.Errorf("the password is in %+v", r)
				}
			}
			if _, err := protocol.Encode(syncOf(check)); err != nil {
				t.Errorf("the result cannot be sent: %v", err)
			}
		})
	}
}

func syncOf(check *protocol.Check) *protocol.Sync {
	return &protocol.Sync{Nonce: strings.Repeat("n", 26), Session: strings.Repeat("s", 26), Check: check}
}

// plain is the address of a server that does not speak TLS.
func plain(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestIntercepted: a proxy that looks into TLS is told from the relay, whether
// or not it is trusted.
func TestIntercepted(t *testing.T) {
	f, proxy := newFront(t, "relay.test"), testkit.NewAuthority(t)
	inner, err := url.Parse("https://" + f.addr)
	if err != nil {
		t.Fatal(err)
	}
	bump := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(inner) },
		Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d, err := dial.New(dial.Options{RootCAs: f.authority.PEM})
			if err != nil {
				return nil, err
			}
			config := d.TLSConfig()
			config.ServerName = "relay.test"
			return d.DialTLS(ctx, addr, config)
		}},
	})
	bump.Config.ErrorLog = log.New(io.Discard, "", 0)
	bump.TLS = proxy.Server("relay.test")
	bump.StartTLS()
	t.Cleanup(bump.Close)
	o := f.options(t)
	f.addr = bump.Listener.Addr().String()
	through(t, f, &o)
	if r := result(t, f.run(t, o), "tls"); r.OK || !strings.Contains(r.Fix, "looks into TLS") {
		t.Errorf("not trusted: %+v", r)
	}
	o.Dial.RootCAs = proxy.PEM
	check := f.run(t, o)
	if r := result(t, check, "tls"); !r.OK || !strings.Contains(r.Detail, "which is not the relay's own authority: a proxy on the way looks into TLS") {
		t.Errorf("trusted: %+v", r)
	}
	if r := result(t, check, "websocket"); !r.OK {
		t.Errorf("trusted: %+v", r)
	}
}

// TestHangs: what takes a connection and says nothing more ends the check.
func TestHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := newFront(t, "127.0.0.1")
	o := f.options(t)
	o.Dial.Timeout = 200 * time.Millisecond
	o.Relay.Host, o.Dial.HTTPSProxy = "relay.test", "http://"+silent.Addr().String()
	if r := result(t, f.run(t, o), "proxy"); r.OK || !strings.Contains(r.Fix, "opened no tunnel") {
		t.Errorf("a proxy that hangs: %+v", r)
	}
	o.Relay.Host, o.Dial.HTTPSProxy = silent.Addr().String(), ""
	if r := result(t, f.run(t, o), "tls"); r.OK || !strings.Contains(r.Detail, "no answer in time") {
		t.Errorf("a relay that hangs: %+v", r)
	}
}

// TestAPIServerHangs: an API server that does not tell its version holds the
// check no longer than it may last.
func TestAPIServerHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			cancel() // in place of the check's patience
			<-over
		}
	}))
	defer api.Close()
	defer close(over)
	c := &checker{o: Options{Kube: &rest.Config{Host: api.URL}}}
	failed := make(chan error, 1)
	go func() {
		_, err := c.apiServer(ctx)
		failed <- err
	}()
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second): // client-go's own patience is longer
		t.Error("it waits on when its time is over")
	}
}

// TestLine: nothing of a stranger's words can break a line or a terminal.
func TestLine(t *testing.T) {
	if got := line("a\x1b[31m\nb\r\n\t c\x00"); got != "a [31m b c" {
		t.Errorf("%q", got)
	}
	if got := line(strings.Repeat("é", 1000)); len(got) > protocol.MaxCheckText+4 {
		t.Errorf("%d bytes", len(got))
	}
}

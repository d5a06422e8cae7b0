package dial

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/testkit"
)

const (
	user     = "alice"
	password = "pa:ss@w/rd#1"
	target   = "relay.example:443" // known to the test's proxies only
)

// proxyURL is the setting for a proxy at addr, with credentials.
func proxyURL(scheme, addr, user, password string) string {
	u := url.URL{Scheme: scheme, Host: addr}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// newDialer fails the test on wrong options.
func newDialer(t *testing.T, opts Options) *Dialer {
	t.Helper()
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// greeter is a server that speaks first and then echoes lines.
func greeter(t *testing.T) (addr string) {
	t.Helper()
	return serve(t, greet)
}

func greet(conn net.Conn) {
	_, _ = io.WriteString(conn, "hello\n")
	_, _ = io.Copy(conn, conn)
}

// serve handles the connections to a listener on loopback, each closed after.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	return serveAt(t, "127.0.0.1:0", handle)
}

func serveAt(t *testing.T, at string, handle func(net.Conn)) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// talk checks that conn leads to a greeter.
func talk(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	_, _ = io.WriteString(conn, "ping\n")
	reader := bufio.NewReader(conn)
	for _, want := range []string{"hello\n", "ping\n"} {
		if got, err := reader.ReadString('\n'); got != want || err != nil {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
}

// checkError checks the stage, and that nothing secret is in the text.
func checkError(t *testing.T, err error, stage Stage) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T %v, want an *Error", err, err)
	}
	if e.Stage != stage {
		t.Errorf("stage is %q, want %q: %v", e.Stage, stage, err)
	}
	checkSecrets(t, err)
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
	return e
}

func checkSecrets(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, secret := range []string{
		user, password, url.QueryEscape(password), url.UserPassword(user, password).String(),
		base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("error contains the secret %q: %s", secret, text)
		}
	}
}

func TestDialContext(t *testing.T) {
	hosts := map[string]string{target: greeter(t), "[2001:db8::7]:443": greeter(t)}
	authority := testkit.NewAuthority(t)
	open := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: hosts, Denied: []string{"denied.example:443"}})
	guarded := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: hosts, User: user, Password: password})
	secured := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: hosts, User: user, Password: password, TLS: authority.Server("127.0.0.1")})
	misnamed := testkit.StartProxy(t, testkit.ProxyOptions{TLS: authority.Server("other.example")})
	dead := serve(t, func(net.Conn) {})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()

	for _, test := range []struct {
		name   string
		opts   Options
		target string
		stage  Stage // empty: it works
		hint   string
	}{
		{name: "no authentication", opts: Options{HTTPSProxy: "http://" + open.Addr}},
		{name: "without scheme", opts: Options{HTTPSProxy: open.Addr}},
		{name: "only the http proxy is set", opts: Options{HTTPProxy: open.Addr}},
		{name: "IPv6 literal", opts: Options{HTTPSProxy: open.Addr}, target: "[2001:db8::7]:443"},
		{name: "basic", opts: Options{HTTPSProxy: proxyURL("http", guarded.Addr, user, password)}},
		{name: "basic, wrong", opts: Options{HTTPSProxy: proxyURL("http", guarded.Addr, "bob", password)}, stage: StageProxyAuth, hint: "does not accept"},
		{name: "basic, missing", opts: Options{HTTPSProxy: "http://" + guarded.Addr}, stage: StageProxyAuth, hint: "wants user and password"},
		{name: "TLS to the proxy", opts: Options{HTTPSProxy: proxyURL("https", secured.Addr, user, password), ProxyCA: authority.PEM}},
		{name: "TLS to the proxy, unknown CA", opts: Options{HTTPSProxy: proxyURL("https", secured.Addr, user, password)}, stage: StageProxyTLS, hint: "give it as the proxy's CA"},
		{name: "TLS to the proxy, CA of targets", opts: Options{HTTPSProxy: proxyURL("https", secured.Addr, user, password), RootCAs: authority.PEM}, stage: StageProxyTLS},
		{name: "TLS to the proxy, other name", opts: Options{HTTPSProxy: proxyURL("https", misnamed.Addr, user, password), ProxyCA: authority.PEM}, stage: StageProxyTLS, hint: "for another name"},
		{name: "TLS to a plain proxy", opts: Options{HTTPSProxy: proxyURL("https", open.Addr, user, password)}, stage: StageProxyTLS, hint: "does not speak TLS"},
		{name: "plain to a TLS proxy", opts: Options{HTTPSProxy: proxyURL("http", secured.Addr, user, password)}, stage: StageTunnel},
		{name: "denied", opts: Options{HTTPSProxy: proxyURL("http", open.Addr, user, password)}, target: "denied.example:443", stage: StageTunnel, hint: "allow CONNECT"},
		{name: "proxy cannot resolve", opts: Options{HTTPSProxy: proxyURL("http", open.Addr, user, password)}, target: "nowhere.invalid:443", stage: StageTunnel, hint: "cannot reach the target"},
		{name: "proxy closes", opts: Options{HTTPSProxy: proxyURL("http", dead, user, password)}, stage: StageTunnel},
		{name: "proxy is dead", opts: Options{HTTPSProxy: proxyURL("http", closed.Addr().String(), user, password)}, stage: StageConnect, hint: "nothing listens"},
		{name: "proxy's name is unknown", opts: Options{HTTPSProxy: proxyURL("http", "proxy.invalid:3128", user, password)}, stage: StageResolve, hint: "check the proxy setting"},
		{name: "direct, name unknown", opts: Options{HTTPSProxy: open.Addr, NoProxy: ".invalid"}, target: "relay.invalid:443", stage: StageResolve},
		{name: "direct, nothing listens", opts: Options{HTTPSProxy: open.Addr}, target: closed.Addr().String(), stage: StageConnect, hint: "nothing listens"},
		{name: "no port", opts: Options{HTTPSProxy: open.Addr}, target: "relay.example", stage: StageConnect, hint: "host:port"},
		{name: "line break in the target", opts: Options{HTTPSProxy: open.Addr}, target: "relay.example\r\nEvil: 1:443", stage: StageConnect, hint: "host:port"},
		{name: "space in the target", opts: Options{HTTPSProxy: open.Addr}, target: "relay.example evil\r\n:443", stage: StageTunnel},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDialer(t, test.opts)
			if test.target == "" {
				test.target = target
			}
			conn, err := d.DialContext(t.Context(), "tcp", test.target)
			if test.stage == "" {
				if err != nil {
					t.Fatal(err)
				}
				talk(t, conn)
				return
			}
			e := checkError(t, err, test.stage)
			if !strings.Contains(e.Hint, test.hint) {
				t.Errorf("hint is %q, want something with %q", e.Hint, test.hint)
			}
			if e.Target != test.target {
				t.Errorf("target is %q, want %q", e.Target, test.target)
			}
			if direct := d.Route(test.target) == "direct"; direct != (e.Proxy == "") {
				t.Errorf("proxy is %q, route %q", e.Proxy, d.Route(test.target))
			}
		})
	}
	want := []string{target, target, target, "[2001:db8::7]:443"}
	if diff := cmp.Diff(want, open.Targets()); diff != "" {
		t.Errorf("tunnels asked of the proxy (-want +got):\n%s", diff)
	}
}

func TestDialDirectPassesTheProxyBy(t *testing.T) {
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{})
	d := newDialer(t, Options{HTTPSProxy: proxy.Addr})
	conn, err := d.DialContext(t.Context(), "tcp", greeter(t))
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
	if got := proxy.Targets(); len(got) > 0 {
		t.Errorf("the proxy was asked for %v", got)
	}
}

func TestDialTimeout(t *testing.T) {
	hangs := serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	drips := serve(t, func(conn net.Conn) {
		for _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; _, err = io.WriteString(conn, "X: y\r\n") {
			time.Sleep(5 * time.Millisecond) // how slow the proxy is, not a wait
		}
	})
	for _, scheme := range []string{"http", "https", "socks5"} {
		t.Run(scheme, func(t *testing.T) {
			d := newDialer(t, Options{HTTPSProxy: proxyURL(scheme, hangs, user, password), Timeout: 50 * time.Millisecond})
			_, err := d.DialContext(t.Context(), "tcp", target)
			var e *Error
			if !errors.As(err, &e) || !e.Timeout() {
				t.Fatalf("error is %v, want a timeout", err)
			}
			checkError(t, err, e.Stage)
		})
	}
	t.Run("drips", func(t *testing.T) {
		d := newDialer(t, Options{HTTPSProxy: proxyURL("http", drips, user, password), Timeout: 50 * time.Millisecond})
		_, err := d.DialContext(t.Context(), "tcp", target)
		if e := checkError(t, err, StageTunnel); !e.Timeout() {
			t.Errorf("error is %v, want a timeout", err)
		}
	})
	t.Run("target's TLS", func(t *testing.T) {
		d := newDialer(t, Options{Timeout: 50 * time.Millisecond})
		_, err := d.DialTLS(t.Context(), hangs, nil)
		if e := checkError(t, err, StageTLS); !e.Timeout() {
			t.Errorf("error is %v, want a timeout", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		taken := make(chan struct{})
		proxy := serve(t, func(conn net.Conn) {
			close(taken)
			_, _ = io.Copy(io.Discard, conn)
		})
		go func() {
			<-taken
			cancel()
		}()
		d := newDialer(t, Options{HTTPSProxy: proxy, Timeout: time.Minute})
		if _, err := d.DialContext(ctx, "tcp", target); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want context.Canceled", err)
		}
	})
}

func TestTunnelOutlivesTheDialContext(t *testing.T) {
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: map[string]string{target: greeter(t)}})
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := newDialer(t, Options{HTTPSProxy: proxy.Addr}).DialContext(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	talk(t, conn)
}

// TestTransportLeavesDeadConnections: a connection that carries nothing any
// more, and that nobody closed, is found out by its pings and not used again.
func TestTransportLeavesDeadConnections(t *testing.T) {
	authority := testkit.NewAuthority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
	server.EnableHTTP2 = true
	server.TLS = authority.Server("relay.example")
	server.StartTLS()
	defer server.Close()
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{Hosts: map[string]string{target: server.Listener.Addr().String()}})
	transport := newDialer(t, Options{
		HTTPSProxy: proxyURL("http", proxy.Addr, "", ""), RootCAs: authority.PEM,
		Pings: Pings{After: 50 * time.Millisecond, Timeout: 500 * time.Millisecond},
	}).Transport()
	defer transport.CloseIdleConnections()
	// Long enough for pings, and far from what a dead connection would take.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	get := func() (proto string, err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target+"/", nil)
		if err != nil {
			return "", err
		}
		answer, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return "", err
		}
		return answer.Proto, answer.Body.Close()
	}
	if proto, err := get(); err != nil || proto != "HTTP/2.0" {
		t.Fatalf("%s, %v", proto, err)
	}
	proxy.Freeze()
	_, err := get() // on the dead connection, unless that was found out already
	for ; err != nil && ctx.Err() == nil; _, err = get() {
	}
	if err != nil {
		t.Errorf("the dead connection is still used: %v", err)
	}
}

func TestTransport(t *testing.T) {
	authority := testkit.NewAuthority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s for %s", r.Proto, r.Host)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = authority.Server("relay.example")
	server.StartTLS()
	defer server.Close()
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{
		User: user, Password: password,
		Hosts: map[string]string{target: server.Listener.Addr().String()},
	})
	// net/http's own proxy would be asked if the transport knew it.
	t.Setenv("HTTPS_PROXY", "http://proxy.invalid:1")

	get := func(opts Options) (string, error) {
		transport := newDialer(t, opts).Transport()
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport}).Get("https://" + target + "/")
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return string(body), err
	}
	opts := Options{HTTPSProxy: proxyURL("http", proxy.Addr, user, password), RootCAs: authority.PEM}
	if got, err := get(opts); err != nil || got != "HTTP/2.0 for relay.example:443" && got != "HTTP/2.0 for relay.example" {
		t.Errorf("got %q, %v", got, err)
	}
	opts.RootCAs = nil
	_, err := get(opts)
	if e := checkError(t, err, StageTLS); !strings.Contains(e.Hint, "intercepts TLS") {
		t.Errorf("hint is %q", e.Hint)
	}
}

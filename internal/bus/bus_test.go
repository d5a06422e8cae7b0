package bus

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

func TestThroughProxy(t *testing.T) {
	r := startRelay(t)
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{
		User: "alice", Password: "s3cret",
		Hosts: map[string]string{"relay.example:443": r.frontAddr()},
	})
	s := newStates()
	c := connect(t, Options{
		URL:         "wss://relay.example",
		Dialer:      newDialer(t, dial.Options{HTTPSProxy: "http://alice:s3cret@" + proxy.Addr, RootCAs: r.caPEM}),
		InboxPrefix: "_INBOX_onprem-1",
		OnState:     s.tell,
	})
	s.until(t, true)
	echo(t, c)
	if diff := cmp.Diff([]string{"relay.example:443"}, proxy.Targets()); diff != "" {
		t.Errorf("tunnels (-want +got):\n%s", diff)
	}
	if inbox := c.nc.NewInbox(); !strings.HasPrefix(inbox, "_INBOX_onprem-1.") {
		t.Errorf("inbox is %s", inbox)
	}

	// A proxy that is restarted cuts the tunnel.
	proxy.Cut()
	s.until(t, false)
	s.until(t, true)
	echo(t, c)
}

func TestPlainAndTLS(t *testing.T) {
	r := startRelay(t)
	for _, url := range []string{
		"nats://127.0.0.1:" + strconv.Itoa(r.port),
		"ws://127.0.0.1:" + strconv.Itoa(r.ws),
		"wss://" + r.frontAddr() + "/nats",
	} {
		c := connect(t, Options{URL: url, Dialer: newDialer(t, dial.Options{RootCAs: r.caPEM})})
		if connected, err := c.State(); !connected {
			t.Fatalf("%s: %v", url, err)
		}
		echo(t, c)
	}
}

func TestTLSOfNATSItself(t *testing.T) {
	authority := testkit.NewAuthority(t)
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		TLS: true, TLSConfig: authority.Server("127.0.0.1"), TLSTimeout: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(patience) {
		t.Fatal("NATS did not start")
	}
	dialer := newDialer(t, dial.Options{RootCAs: authority.PEM})
	url := "tls://" + srv.Addr().String()
	if connected, err := connect(t, Options{URL: url, Dialer: dialer, TLS: dialer.TLSConfig()}).State(); !connected {
		t.Error(err)
	}
	if connected, _ := connect(t, Options{URL: url, Dialer: dialer}).State(); connected {
		t.Error("connected to a server of an unknown CA")
	}
}

func TestRelayRestart(t *testing.T) {
	r := startRelay(t)
	s := newStates()
	c := connect(t, Options{
		URL:     "wss://" + r.frontAddr(),
		Dialer:  newDialer(t, dial.Options{RootCAs: r.caPEM}),
		OnState: s.tell,
	})
	s.until(t, true)
	nudged := make(chan bool, 1)
	stop, err := c.Subscribe("nudge.onprem-1", func() { nudged <- true })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	r.stop()
	s.until(t, false)
	if _, err := c.Request(t.Context(), "up.echo", nil); err == nil || !strings.Contains(err.Error(), "not connected to the relay: ") {
		t.Errorf("a request without a connection gave %v", err)
	}
	// The front answers 502 meanwhile.
	for err := s.until(t, false); !strings.Contains(err.Error(), "not a relay's"); err = s.until(t, false) {
		t.Log(err)
	}
	r.start()
	s.until(t, true)
	if err := c.LastError(); err != nil {
		t.Errorf("last error is still %v", err)
	}
	echo(t, c)
	if err := r.echo.Publish("nudge.onprem-1", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-nudged:
	case <-time.After(patience):
		t.Error("the subscription did not outlive the restart")
	}
}

func TestKeyAllowedLater(t *testing.T) {
	other, _ := newKey(t)
	r := startRelay(t, other)
	public, sign := newKey(t)
	s := newStates()
	c := connect(t, Options{
		URL:    "wss://" + r.frontAddr(),
		Dialer: newDialer(t, dial.Options{RootCAs: r.caPEM}),
		Nkey:   public, Sign: sign,
		OnState: s.tell,
	})
	// nats.go alone would give up after two refusals that are the same.
	for range 5 {
		err := s.until(t, false)
		for strings.Contains(err.Error(), "EOF") { // the front may close before it has passed on why
			err = s.until(t, false)
		}
		if !errors.Is(err, nats.ErrAuthorization) || !strings.Contains(err.Error(), "does not accept the key "+public) {
			t.Fatalf("error is %v", err)
		}
	}
	r.admit(public)
	s.until(t, true)
	echo(t, c)
}

func TestFailuresAreTold(t *testing.T) {
	r := startRelay(t)
	guarded := testkit.StartProxy(t, testkit.ProxyOptions{User: "alice", Password: "s3cret"})
	closed := "127.0.0.1:" + strconv.Itoa(freePort(t))
	silent := silence(t)
	for _, test := range []struct {
		name  string
		url   string
		dial  dial.Options
		stage dial.Stage // empty: not the dialer's error
		want  string
	}{
		// nats.go hides "connection refused".
		{"proxy is dead", "wss://relay.example", dial.Options{HTTPSProxy: "http://alice:hunter2@" + closed}, dial.StageConnect, "through proxy http://" + closed},
		{"wrong password", "wss://relay.example", dial.Options{HTTPSProxy: "http://alice:hunter2@" + guarded.Addr}, dial.StageProxyAuth, "does not accept the user"},
		{"unknown CA", "wss://" + r.frontAddr(), dial.Options{}, dial.StageTLS, "CA that is unknown here"},
		{"another path", "wss://" + r.frontAddr() + "/other", dial.Options{RootCAs: r.caPEM}, "", "not a relay's"},
		{"hangs in TLS", "wss://" + silent, dial.Options{Timeout: 50 * time.Millisecond}, dial.StageTLS, "no answer in time"},
		{"hangs after the dial", "ws://" + silent, dial.Options{}, "", "timeout"},
		{"NATS hangs", "nats://" + silent, dial.Options{}, "", "timeout"},
		{"no TLS there", "tls://127.0.0.1:" + strconv.Itoa(r.port), dial.Options{}, "", "secure connection"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStates()
			c := connect(t, Options{URL: test.url, Dialer: newDialer(t, test.dial), Timeout: 50 * time.Millisecond, OnState: s.tell})
			for range 3 { // the first attempt and those after it
				err := s.until(t, false)
				var e *dial.Error
				if errors.As(err, &e) != (test.stage != "") || e != nil && e.Stage != test.stage {
					t.Errorf("error is %v, want one of stage %q", err, test.stage)
				}
				if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error is %q, want something with %q", err, test.want)
				}
			}
			if connected, err := c.State(); connected || err == nil {
				t.Errorf("state is %v, %v", connected, err)
			}
		})
	}
}

func TestCloseAndCancel(t *testing.T) {
	dialer := newDialer(t, dial.Options{HTTPSProxy: silence(t), Timeout: time.Hour})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

	ctx, cancel := context.WithCancel(t.Context())
	dialing := make(chan struct{})
	d := tell{dialer, dialing}
	go func() {
		<-dialing
		cancel()
	}()
	if _, err := Connect(ctx, Options{URL: "nats://relay.example", Dialer: d}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Connect gave %v", err)
	}

	// Closing does not wait for a dial that hangs.
	closed := newDialer(t, dial.Options{HTTPSProxy: "127.0.0.1:" + strconv.Itoa(freePort(t))})
	dialing = make(chan struct{})
	c, err := Connect(t.Context(), Options{URL: "nats://relay.example", Dialer: &second{first: closed, then: tell{dialer, dialing}}, MaxDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	<-dialing
	c.Close()
	c.Close()
	if _, err := c.Request(t.Context(), "up.echo", nil); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("a request after Close gave %v", err)
	}
}

// tell closes a channel when it dials.
type tell struct {
	Dialer
	dialing chan struct{}
}

func (d tell) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	close(d.dialing)
	return d.Dialer.DialContext(ctx, network, addr)
}

// second uses another dialer from the second dial on.
type second struct {
	Dialer
	first, then Dialer
}

func (d *second) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.first != nil {
		first := d.first
		d.first = nil
		return first.DialContext(ctx, network, addr)
	}
	return d.then.DialContext(ctx, network, addr)
}

func TestParseEndpoint(t *testing.T) {
	for raw, want := range map[string]string{
		"wss://relay.example":            "wss://relay.example:443/nats",
		"wss://relay.example:8443/":      "wss://relay.example:8443/nats",
		"wss://relay.example/team%20a/n": "wss://relay.example:443/team%20a/n",
		"wss://[2001:db8::7]":            "wss://[2001:db8::7]:443/nats",
		"tls://nats.example":             "tls://nats.example:4222",
		"nats://nats.example:4333/":      "nats://nats.example:4333",
	} {
		if got, err := parseEndpoint(raw); err != nil || got.String() != want {
			t.Errorf("%s is %v, %v; want %s", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		"":                                  "none of",
		"relay.example":                     "none of",
		"https://relay.example":             `scheme "https"`,
		"wss://":                            "host is missing",
		"wss://alice:hunter2@relay.example": "no user or password",
		"wss://alice:hun#ter2@relay":        "not a URL",
		"wss://relay.example/nats?a=b":      "nothing may follow",
		"nats://nats.example/path":          "a path is of no use",
	} {
		if _, err := parseEndpoint(raw); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s gave %v, want something with %q", raw, err, want)
		}
	}
}

func TestJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1<<40).Draw(t, "attempt")
		most := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "most"))
		if wait := jitter(n, most); wait <= 0 || wait > most {
			t.Errorf("wait %v before attempt %d, at most %v", wait, n, most)
		}
	})
}

// silence is a server that accepts and says nothing.
func silence(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

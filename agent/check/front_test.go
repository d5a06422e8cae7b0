package check

import (
	"context"
	"encoding/json"
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

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

const password = "k33p-m3-s3cr3t"

// front is what stands for a relay here: its front over TLS, with a real broker
// behind it.
type front struct {
	authority *testkit.Authority
	addr      string
	key       nkeys.KeyPair // that the agent signs with; at first that of the cluster onprem
	health    http.HandlerFunc
	noUpgrade bool // as a proxy that looks into TLS may do
}

// newFront serves with a certificate of the authority for names.
func newFront(t *testing.T, names ...string) *front {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &front{authority: testkit.NewAuthority(t), key: key}
	f.health = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }
	whoami := func(w http.ResponseWriter, r *http.Request) {
		verifier := agentauth.Verifier{
			Audience: func(host string) bool { return host == "127.0.0.1" || host == "relay.test" },
			Cluster:  func(key string) (string, bool) { return "onprem", key == public },
			Now:      time.Now(),
		}
		cluster, err := verifier.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"detail": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"cluster": cluster})
	}
	ns, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true,
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: -1, NoTLS: true}})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	broker, err := url.Parse(strings.Replace(ns.WebsocketURL(), "ws://", "http://", 1))
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(broker); r.Out.URL.Path = "/" }}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { f.health(w, r) })
	mux.HandleFunc("GET /v1/agent/whoami", whoami)
	mux.HandleFunc("/nats", func(w http.ResponseWriter, r *http.Request) {
		if f.noUpgrade {
			r.Header.Del("Upgrade")
		}
		forward.ServeHTTP(w, r)
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = f.authority.Server(names...)
	s.StartTLS()
	t.Cleanup(s.Close)
	f.addr = s.Listener.Addr().String()
	return f
}

// options check an agent of the front, which it reaches directly.
func (f *front) options(t *testing.T) Options {
	t.Helper()
	o := Options{
		Relay: &url.URL{Scheme: "https", Host: f.addr}, Cluster: "onprem", Home: "azureml", Computes: []string{"train"},
		Dial: dial.Options{RootCAs: f.authority.PEM, Timeout: 5 * time.Second}, Authority: f.authority.PEM,
	}
	return o
}

// run checks, with connections to the broker as the options dial, and requests
// signed by the options' clock.
func (f *front) run(t *testing.T, o Options) *protocol.Check {
	t.Helper()
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Authorize = func(r *http.Request) error {
		token, err := agentauth.Sign(f.key, o.Relay.Hostname(), o.Now())
		r.Header.Set("Authorization", "Bearer "+token)
		return err
	}
	o.Connect = func(ctx context.Context) error {
		dialer, err := dial.New(o.Dial)
		if err != nil {
			return err
		}
		at := "wss://" + o.Relay.Host
		if o.NATS != nil {
			at = o.NATS.String()
		}
		conn, err := bus.Connect(ctx, bus.Options{URL: at, Dialer: dialer, TLS: dialer.TLSConfig(), Timeout: 5 * time.Second, Log: zerolog.Nop()})
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.LastError()
	}
	return Run(t.Context(), o)
}

// through gives the options a proxy in process, which alone knows the relay by
// the name relay.test.
func through(t *testing.T, f *front, o *Options, change ...func(*testkit.ProxyOptions)) *testkit.Proxy {
	t.Helper()
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	o.Relay = &url.URL{Scheme: "https", Host: "relay.test:" + port}
	opts := testkit.ProxyOptions{User: "agent", Password: password, Hosts: map[string]string{o.Relay.Host: f.addr}}
	for _, c := range change {
		c(&opts)
	}
	proxy := testkit.StartProxy(t, opts)
	scheme := "http"
	if opts.TLS != nil {
		scheme = "https"
	}
	o.Dial.HTTPSProxy = scheme + "://agent:" + password + "@" + proxy.Addr
	return proxy
}

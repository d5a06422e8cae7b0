package relay

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/relay/broker"
)

// everyBroker runs a test with the embedded server, and with one of its own
// that is configured with what `trainrelay nats config` prints.
func everyBroker(t *testing.T, test func(*testing.T, Options)) {
	t.Run("embedded", func(t *testing.T) { test(t, Options{Data: t.TempDir()}) })
	t.Run("external", func(t *testing.T) {
		site := newNATSSite(t)
		site.start(site.config(broker.Server{}))
		test(t, Options{Data: t.TempDir(), NATS: site.external()})
	})
}

// natsURL is where agents of the relay connect without its front.
func (r *running) natsURL() string {
	if r.opts.NATS != nil {
		return strings.Join(r.opts.NATS.URLs, ",")
	}
	return strings.Replace(r.Broker().WebsocketURL(), "http", "ws", 1)
}

func (r *running) trustNATS() nats.Option {
	return func(o *nats.Options) error {
		if r.opts.NATS != nil {
			o.TLSConfig = r.opts.NATS.TLS
		}
		return nil
	}
}

// natsSite is where NATS servers with TLS run on loopback.
type natsSite struct {
	t         *testing.T
	authority *testkit.Authority
	dir       string
	keys      *broker.Keys
	servers   []*server.Server
}

func newNATSSite(t *testing.T) *natsSite {
	t.Helper()
	s := &natsSite{t: t, authority: testkit.NewAuthority(t), dir: t.TempDir()}
	var err error
	if s.keys, err = broker.MakeKeys(filepath.Join(s.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	certificate := s.authority.Server("127.0.0.1").Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]},
		"tls.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// config is what `trainrelay nats config` prints for a server on loopback.
func (s *natsSite) config(with broker.Server) string {
	s.t.Helper()
	with.Listen, with.WebsocketListen, with.MaxStore = "127.0.0.1:-1", "127.0.0.1:-1", 18<<30
	with.StoreDir = s.t.TempDir()
	with.TLSCert, with.TLSKey = filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key")
	text, err := with.Config(s.keys)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// start runs a server with a configuration until the test ends.
func (s *natsSite) start(config string) *server.Server {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "server.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	nats, err := server.NewServer(options)
	if err != nil {
		s.t.Fatal(err)
	}
	nats.Start()
	s.t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(20 * time.Second) {
		s.t.Fatal("the NATS server is not ready")
	}
	s.servers = append(s.servers, nats)
	return nats
}

// external is how a relay reaches the servers.
func (s *natsSite) external() *broker.External {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.PEM)
	e := &broker.External{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Keys: s.keys}
	for _, nats := range s.servers {
		e.URLs = append(e.URLs, "tls://"+nats.Addr().String())
	}
	e.Websocket = strings.Replace(s.servers[0].WebsocketURL(), "wss", "https", 1)
	return e
}

// TestAgentsByTheFront: agents that reach only the relay's port are forwarded
// to the external server, or told where to go.
func TestAgentsByTheFront(t *testing.T) {
	site := newNATSSite(t)
	site.start(site.config(broker.Server{}))
	data := t.TempDir()
	s := serveWith(t, Options{Data: data, NATS: site.external()})
	s.leadFront(t, "c", s.setUp(t, "c"))
	s.stop()

	to := site.external()
	to.Websocket = ""
	s = serveWith(t, Options{Data: data, NATS: to})
	if status, body := s.request(t, "GET", "/nats", "", nil); status != 404 || !strings.Contains(string(body), "relay.natsURL") {
		t.Errorf("%d %s", status, body)
	}
}

// TestServerOfAnotherConfiguration: a relay does not start on a server that is
// not configured as it has to be, and says what is wrong with it.
func TestServerOfAnotherConfiguration(t *testing.T) {
	type change struct{ old, new string }
	for name, tc := range map[string]struct {
		change
		want []string
	}{
		"no JetStream for the relay": {change{"    jetstream: enabled\n", ""}, []string{"JetStream", "account RELAY"}},
		"acknowledges too early":     {change{"sync_interval: always", `sync_interval: "2m"`}, []string{"not on disk", "sync_interval: always"}},
		"small messages":             {change{"max_payload: ", "max_payload: 1024 # "}, []string{"1024 bytes", "max_payload"}},
		"no callout":                 {change{"  auth_callout {", "  # auth_callout {"}, []string{"does not ask the relay", "auth_callout"}},
		"another issuer":             {change{"issuer: A", "issuer: " + strangeIssuer(t) + " #"}, []string{"does not believe the relay", "issuer"}},
		"requests do not come over":  {change{`      {service: {account: RELAY, subject: "up.*.*"}}` + "\n", ""}, []string{"request is not answered", `"up.*.*"`}},
		"nudges do not come over":    {change{`      {stream: {account: RELAY, subject: "nudge.*.*"}}` + "\n", ""}, []string{"does not hear the relay", `"nudge.*.*"`}},
	} {
		t.Run(name, func(t *testing.T) {
			site := newNATSSite(t)
			config := site.config(broker.Server{})
			changed := strings.Replace(config, tc.old, tc.new, 1)
			if name == "another issuer" {
				changed = strings.Replace(changed, ", account: RELAY, auth_users", "\n account: RELAY, auth_users", 1)
			}
			if changed == config {
				t.Fatal("the configuration has no such line")
			}
			site.start(changed)
			wantNoStart(t, site.external(), tc.want...)
		})
	}
	t.Run("keys of another folder", func(t *testing.T) {
		site, other := newNATSSite(t), newNATSSite(t)
		site.start(site.config(broker.Server{}))
		to := site.external()
		to.Keys = other.keys
		wantNoStart(t, to, "connect as the relay", "trainrelay nats config --keys")
	})
	t.Run("a certificate of somebody else", func(t *testing.T) {
		site := newNATSSite(t)
		site.start(site.config(broker.Server{}))
		to := site.external()
		to.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		wantNoStart(t, to, "--nats-ca-file")
	})
	t.Run("no server", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		wantNoStart(t, &broker.External{URLs: []string{"tls://" + listener.Addr().String()}, Keys: newNATSSite(t).keys}, "is the server up")
	})
	for url, want := range map[string]string{
		"nats://nats.example.com":     "without TLS",
		"tls://me:pw@example.com":     "no user or password",
		"https://nats.example.com":    "none of tls, nats",
		"tls://":                      "is not one",
		"tls://nats.example.com\x00/": "is not one",
	} {
		_, err := New(Options{Data: t.TempDir(), NATS: &broker.External{URLs: []string{url}, Keys: newNATSSite(t).keys}})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
}

func strangeIssuer(t *testing.T) string {
	t.Helper()
	text, err := broker.Server{Listen: "127.0.0.1:1"}.Config(newNATSSite(t).keys)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "issuer: ")
	issuer, _, _ := strings.Cut(rest, ",")
	return issuer
}

func wantNoStart(t *testing.T, to *broker.External, want ...string) {
	t.Helper()
	r, err := New(Options{Data: t.TempDir(), NATS: to})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context())
	for _, word := range want {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v, want %q", err, word)
		}
	}
	t.Log(err)
}

// TestSeveralServers: everything is kept by three servers, agents come by any
// of them, and a revoked one is cut off wherever it is.
func TestSeveralServers(t *testing.T) {
	site := newNATSSite(t)
	var routes []string
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, listener.Addr().String())
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, route := range routes {
		config := site.config(broker.Server{Name: fmt.Sprint("nats-", i)}) + fmt.Sprintf(
			"cluster { name: test, listen: %q, routes: [\"nats://%s\"] }\n", route, strings.Join(routes, `", "nats://`))
		site.start(config)
	}
	for wait := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		current := 0
		for _, nats := range site.servers {
			if nats.JetStreamIsCurrent() {
				current++
			}
		}
		if current == len(site.servers) {
			break
		}
		if time.Now().After(wait) {
			t.Fatal("the servers do not agree on a leader")
		}
	}
	to := site.external()
	to.Replicas = 3
	r := start(t, Options{Data: t.TempDir(), NATS: to})
	key := addCluster(t, r, "c")
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan string, len(site.servers))
	for _, at := range to.URLs {
		conn, err := nats.Connect(at, r.trustNATS(), nats.Nkey(public, key.Sign), nats.CustomInboxPrefix("_INBOX_c"), nats.NoReconnect(),
			nats.ClosedHandler(func(c *nats.Conn) { closed <- c.ConnectedServerName() }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		(&agent{t: t, cluster: "c", session: "session-at-" + at, conn: conn, trust: r.Keys().Trust("")}).join()
	}
	stream, err := r.Broker().JetStream().Stream(t.Context(), "LOGS")
	if err != nil || stream.CachedInfo().Config.Replicas != 3 {
		t.Errorf("output is kept %+v, %v", stream.CachedInfo().Config, err)
	}
	began := time.Now()
	if _, err := r.Jobs().Disconnect(t.Context(), "c", "admin", false); err != nil {
		t.Fatal(err)
	}
	for range site.servers {
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			t.Fatal("a connection of the cluster that was disconnected is still open")
		}
	}
	t.Logf("cut at three servers within %v", time.Since(began))
}

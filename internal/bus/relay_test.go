package bus

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// patience is how long a test waits for what should happen soon.
const patience = 20 * time.Second

// relay is a NATS server with a TLS front as a real relay has it: agents come
// through a WebSocket at /nats. It echoes what is sent to "up.echo".
type relay struct {
	t      *testing.T
	front  *httptest.Server
	caPEM  []byte
	keys   []string // public nkeys that may connect; empty for all
	server *server.Server
	echo   *nats.Conn
	ws     int // port, kept over restarts
	port   int
}

func startRelay(t *testing.T, keys ...string) *relay {
	t.Helper()
	authority := testkit.NewAuthority(t)
	r := &relay{t: t, caPEM: authority.PEM, keys: keys, ws: freePort(t), port: freePort(t)}
	backend := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(r.ws))}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(backend)
			p.Out.URL.Path = "/"
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	mux := http.NewServeMux()
	mux.Handle("/nats", proxy)
	r.front = httptest.NewUnstartedServer(mux)
	r.front.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.front.TLS = authority.Server("relay.example", "127.0.0.1")
	r.front.StartTLS()
	r.start()
	t.Cleanup(func() {
		r.stop()
		r.front.Close()
	})
	return r
}

func (r *relay) options() *server.Options {
	o := &server.Options{
		ServerName: "relay", Host: "127.0.0.1", Port: r.port, NoSigs: true, NoLog: true,
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: r.ws, NoTLS: true, HandshakeTimeout: 5 * time.Second},
	}
	for _, key := range r.keys {
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: key})
	}
	if len(r.keys) > 0 {
		o.Users = []*server.User{{Username: "relay", Password: "relay"}}
	}
	return o
}

func (r *relay) start() {
	r.t.Helper()
	s, err := server.NewServer(r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		r.t.Fatal("NATS did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo("relay", "relay"))
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := nc.Subscribe("up.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		r.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		r.t.Fatal(err)
	}
	r.server, r.echo = s, nc
}

func (r *relay) stop() {
	r.echo.Close()
	r.server.Shutdown()
	r.server.WaitForShutdown()
}

// admit lets one more key in.
func (r *relay) admit(key string) {
	r.t.Helper()
	r.keys = append(r.keys, key)
	if err := r.server.ReloadOptions(r.options()); err != nil {
		r.t.Fatal(err)
	}
}

// frontAddr is host:port of the TLS front.
func (r *relay) frontAddr() string { return r.front.Listener.Addr().String() }

// states takes what OnState says.
type states chan state

type state struct {
	connected bool
	err       error
}

func newStates() states { return make(states, 1000) }

func (s states) tell(connected bool, err error) { s <- state{connected, err} }

// until waits for a state that is as wanted and returns its error.
func (s states) until(t *testing.T, connected bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case now := <-s:
			if now.connected == connected {
				return now.err
			}
		case <-ctx.Done():
			t.Fatalf("the connection did not become connected=%v", connected)
		}
	}
}

// connect opens a connection that is closed when the test ends.
func connect(t *testing.T, opts Options) *Conn {
	t.Helper()
	opts.MaxDelay = 50 * time.Millisecond
	opts.Log = zerolog.New(zerolog.NewTestWriter(t))
	c, err := Connect(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newDialer(t *testing.T, opts dial.Options) *dial.Dialer {
	t.Helper()
	d, err := dial.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// echo checks that a request is answered.
func echo(t *testing.T, c *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, text := range []string{"ping", strings.Repeat("x", 200<<10)} {
		answer, err := c.Request(ctx, "up.echo", []byte(text))
		if err != nil || string(answer) != text {
			t.Fatalf("answer is %d bytes, %v; want %d", len(answer), err, len(text))
		}
	}
}

// newKey makes a key pair.
func newKey(t *testing.T) (public string, sign func([]byte) ([]byte, error)) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return public, pair.Sign
}

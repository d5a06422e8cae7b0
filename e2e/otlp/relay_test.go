package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const repo = "../.."

// build builds the relay's program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "trainrelay")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./relay/cmd/trainrelay")
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// freeAddr is an address at which nothing listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// relay is the program in a folder of its own.
type relay struct {
	t    *testing.T
	args []string
	dir  string
	cmd  *exec.Cmd
}

// start runs the relay and waits until it answers.
func (r *relay) start() {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.dir, "relay.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command(r.args[0], r.args[1:]...)
	r.cmd.Dir, r.cmd.Stderr = r.dir, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for range 600 {
		if c, err := r.client(); err == nil {
			_, err = c.WhoAmI(r.t.Context())
			c.Close()
			if err == nil {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("the relay does not answer:\n%s", r.log())
}

// end ends the relay with a signal, and waits.
func (r *relay) end(signal os.Signal) {
	r.t.Helper()
	if r.cmd == nil {
		return
	}
	if err := r.cmd.Process.Signal(signal); err != nil {
		r.t.Error(err)
	}
	if err := r.cmd.Wait(); err != nil && signal != os.Kill {
		r.t.Errorf("the relay ended: %v\n%s", err, r.log())
	}
	r.cmd = nil
}

func (r *relay) log() string {
	text, err := os.ReadFile(filepath.Join(r.dir, "relay.log"))
	if err != nil {
		r.t.Error(err)
	}
	return string(text)
}

func (r *relay) config() (client.Config, error) {
	return client.LoadConfig(filepath.Join(r.dir, "data", "client.json"))
}

func (r *relay) client() (*client.Client, error) {
	config, err := r.config()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{UserAgent: "test"})
}

// metrics is what the relay says of itself.
func (r *relay) metrics() string {
	r.t.Helper()
	config, err := r.config()
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, config.URL+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.Token)
	transport := &http.Transport{TLSClientConfig: trust(config)}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func trust(config client.Config) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(config.CA))
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// agent plays a cluster's agent, by the relay's port.
type agent struct {
	t       *testing.T
	cluster string
	conn    *bus.Conn
	sent    map[int]int // lines of each rank
}

// join joins a cluster that has a compute of the same name.
func join(t *testing.T, r *relay, cluster string) *agent {
	t.Helper()
	ctx := t.Context()
	c, err := r.client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token, err := c.Connect(ctx, cluster)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.PutCompute(ctx, cluster, v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: cluster, Namespace: "train"}}); err != nil {
		t.Fatal(err)
	}
	config, err := r.config()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trust(config)}
	defer transport.CloseIdleConnections()
	joined, err := testkit.Join(ctx, &http.Client{Transport: transport}, config.URL, token.Token)
	if err != nil {
		t.Fatal(err)
	}
	public, err := joined.Key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(ctx, bus.Options{
		URL: strings.Replace(config.URL, "https", "wss", 1), Dialer: dialer, TLS: trust(config),
		Nkey: public, Sign: joined.Key.Sign, InboxPrefix: protocol.InboxPrefix(cluster), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &agent{t: t, cluster: cluster, conn: conn, sent: map[int]int{}}
}

// ask sends a request until it is answered.
func ask[Q, A protocol.Message](a *agent, verb string, q Q, answer A) {
	a.t.Helper()
	data, err := protocol.Encode(q)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	for {
		reply, err := a.conn.Request(ctx, protocol.UpSubject(a.cluster, verb), data)
		if err == nil {
			err = protocol.Decode(reply, answer)
		}
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			a.t.Fatal(err)
		}
	}
}

// claim takes a job.
func (a *agent) claim(r *relay, job protocol.Job) protocol.Ref {
	a.t.Helper()
	c, err := r.client()
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Submit(a.t.Context(), job); err != nil {
		a.t.Fatal(err)
	}
	first := new(protocol.SyncReply)
	sync := protocol.Sync{Session: "session-0123456789", Nonce: "nonce-0123456789a", Nudge: "word0123456789abcdef", Full: true, Last: true}
	ask(a, protocol.VerbSync, &sync, first)
	sync.Term, sync.Nonce, sync.Full, sync.Last = first.Term, "nonce-0123456789b", false, false
	sync.Room = []protocol.Room{{Compute: a.cluster, Free: 1}}
	second := new(protocol.SyncReply)
	ask(a, protocol.VerbSync, &sync, second)
	if len(second.Starts) != 1 {
		a.t.Fatalf("no start: %+v", second)
	}
	return second.Starts[0].Ref()
}

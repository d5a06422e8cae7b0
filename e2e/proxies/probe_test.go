package proxies

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// Where a NATS server listens in the cloud, in the clear and with TLS.
const (
	natsName  = "nats." + relayDomain
	natsPlain = natsName + ":4222"
	natsTLS   = natsName + ":4223"
)

// probeVariable makes this program a probe in place of a test.
const probeVariable = "TRAINRELAY_PROBE"

// probe is an agent's connection without the agent: it opens one with
// internal/bus, asks for an echo, and writes what came of it.
type probe struct {
	URL    string
	Dial   dial.Options
	Answer string // file
}

// answer is "" where the probe got through, else why not.
func (p probe) answer(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dialer, err := dial.New(p.Dial)
	if err != nil {
		return err.Error()
	}
	conn, err := bus.Connect(ctx, bus.Options{URL: p.URL, Dialer: dialer, TLS: dialer.TLSConfig(), Log: zerolog.New(os.Stderr)})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	text := strings.Repeat("x", 100<<10)
	echo, err := conn.Request(ctx, "echo", []byte(text))
	if err == nil && string(echo) != text {
		err = errors.New("the echo is another")
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (p probe) run(ctx context.Context) int {
	err := json.Unmarshal([]byte(os.Getenv(probeVariable)), &p)
	if err == nil {
		err = os.WriteFile(p.Answer, []byte(p.answer(ctx)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// reaches runs a probe in a place and returns what came of it.
func reaches(t *testing.T, name, url string, s setup) (why string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := probe{URL: url, Answer: filepath.Join(t.TempDir(), "answer"), Dial: dial.Options{
		HTTPSProxy: s.proxy, NoProxy: s.noProxy, ProxyCA: s.proxyCA, RootCAs: s.ca,
	}}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := command{name: "probe-" + name, place: agentsPlace, args: []string{self}, env: []string{probeVariable + "=" + string(text)}}
	if s.open {
		c.place, c.hosts = openPlace, names
	}
	process, err := world.start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := os.ReadFile(p.Answer)
	if err != nil {
		log, _ := os.ReadFile(world.log(c.name))
		t.Fatalf("%v\n%s", err, log)
	}
	return string(answer)
}

// startNATS runs a NATS server that echoes, and returns the CA of its
// certificate.
func startNATS(t *testing.T) (ca []byte) {
	t.Helper()
	authority := testkit.NewAuthority(t)
	for _, o := range []*server.Options{
		{Host: cloudIP, Port: port(t, natsPlain)},
		{Host: cloudIP, Port: port(t, natsTLS), TLS: true, TLSConfig: authority.Server(natsName, cloudIP), TLSTimeout: 10},
	} {
		o.NoSigs, o.NoLog = true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(patience) {
			t.Fatal("NATS does not start")
		}
		conn, err := nats.Connect("", nats.InProcessServer(s), nats.Secure(&tls.Config{InsecureSkipVerify: true}))
		if err != nil {
			conn, err = nats.Connect("", nats.InProcessServer(s))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		if _, err := conn.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return authority.PEM
}

func port(t *testing.T, addr string) (port int) {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = fmt.Sscan(text, &port)
	}
	if err != nil {
		t.Fatal(err)
	}
	return port
}

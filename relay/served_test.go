package relay

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/internal/v1"
)

// served is a relay with its front, and a client of it.
type served struct {
	*running
	front  *Front
	client *client.Client
	config client.Config
}

// serve runs a relay with its front on a port of its own.
func serve(t *testing.T, data string) *served {
	t.Helper()
	return serveWith(t, Options{Data: data})
}

func serveWith(t *testing.T, opts Options, more ...func(*FrontOptions)) *served {
	t.Helper()
	data := opts.Data
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	serving := make(chan struct{})
	options := FrontOptions{
		Data: data, Listener: listener, Hosts: []string{"127.0.0.1"},
		Serving:   func() { close(serving) },
		Heartbeat: 100 * time.Millisecond,
		Log:       zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), Registerer: registry, Gatherer: registry,
	}
	for _, set := range more {
		set(&options)
	}
	front, err := NewFront(options)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{front: front}
	// Closed last, when the relay has stopped: nothing the client does may
	// keep the relay from stopping.
	t.Cleanup(func() { s.client.Close() })
	opts.Front, opts.Registerer = front.Run, registry
	s.running = start(t, opts)
	<-serving
	if s.config, err = client.LoadConfig(front.ClientFile()); err != nil {
		t.Fatal(err)
	}
	if s.client, err = client.New(s.config, client.Options{UserAgent: "test"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// join joins a cluster over HTTP.
func (s *served) join(t *testing.T, name string) *testkit.Joined {
	t.Helper()
	token, err := s.client.Connect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := s.enrol(t, token.Token)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

// enrol uses a join token, as an agent with fresh keys.
func (s *served) enrol(t *testing.T, token string) (*testkit.Joined, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: s.trust()}
	defer transport.CloseIdleConnections()
	return testkit.Join(t.Context(), &http.Client{Transport: transport}, s.config.URL, token)
}

// setUp joins a cluster with a compute of the same name, over HTTP, and returns
// the key of its agent.
func (s *served) setUp(t *testing.T, name string) nkeys.KeyPair {
	t.Helper()
	joined := s.join(t, name)
	if _, created, err := s.client.PutCompute(t.Context(), name, v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: name, Namespace: "train"}}); err != nil || !created {
		t.Fatal(created, err)
	}
	return joined.Key
}

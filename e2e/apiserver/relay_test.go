package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/e2e/chart"
	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay"
)

// cloud is the real relay, with its front, on one address for ever.
type cloud struct {
	t      *testing.T
	addr   string
	data   string
	log    zerolog.Logger
	stop   func() // waits; may be called again
	config client.Config
	*client.Client
}

func newCloud(t *testing.T, log zerolog.Logger) *cloud {
	t.Helper()
	c := &cloud{t: t, addr: "127.0.0.1:0", data: t.TempDir(), log: log}
	c.start()
	var err error
	if c.Client, err = client.New(c.config, client.Options{UserAgent: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); c.stop() })
	return c
}

// start runs the relay and returns when it answers.
func (c *cloud) start() {
	c.t.Helper()
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.addr = listener.Addr().String()
	registry := prometheus.NewRegistry()
	serving := make(chan struct{})
	front, err := relay.NewFront(relay.FrontOptions{
		Data: c.data, Listener: listener, Hosts: []string{"127.0.0.1"}, Serving: func() { close(serving) },
		Log: c.log, Registerer: registry, Gatherer: registry,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := relay.New(relay.Options{Data: c.data, Front: front.Run, Log: c.log, Registerer: registry})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("relay: %v", err)
		}
	})
	select {
	case <-serving:
	case err := <-ended:
		c.t.Fatalf("relay: %v", err)
	}
	if c.config, err = client.LoadConfig(front.ClientFile()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) restart() {
	c.t.Helper()
	c.Close()
	c.stop()
	c.start()
}

// member is a cluster that has joined.
type member struct {
	seed  []byte
	trust protocol.Trust
}

// join joins this cluster, with a compute in the namespace.
func (c *cloud) join(namespace string) member {
	c.t.Helper()
	token, err := c.Connect(c.t.Context(), "onprem")
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.config.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	joined, err := testkit.Join(c.t.Context(), &http.Client{Transport: transport}, c.config.URL, token.Token)
	if err != nil {
		c.t.Fatal(err)
	}
	seed, err := joined.Key.Seed()
	if err != nil {
		c.t.Fatal(err)
	}
	if _, _, err := c.PutCompute(c.t.Context(), "onprem", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "onprem", Namespace: namespace}}); err != nil {
		c.t.Fatal(err)
	}
	return member{seed, joined.Trust}
}

// station is where one pod of the agent runs, again and again.
type station struct {
	t    *testing.T
	o    agent.Options
	stop func() // waits; may be called again
}

// newStation runs an agent that reaches the relay over the wire, and leads by
// the Lease in a namespace.
func newStation(t *testing.T, c *cloud, w *wire, m member, name, home, namespace string) *station {
	t.Helper()
	s := &station{t: t, o: agent.Options{
		Relay: &url.URL{Scheme: "https", Host: w.addr()}, Cluster: "onprem", Seed: m.seed, GatewaySeed: []byte(strings.Repeat("g", 32)),
		Trust: m.trust, SaveTrust: func(context.Context, protocol.Trust) error { return nil }, // it does not change here
		Dial: dial.Options{RootCAs: []byte(c.config.CA)},
		Kube: agentConfig(), Namespaces: []string{namespace}, NodeName: node, PodName: name, PodNamespace: home,
		GatewayListen: "127.0.0.1:0",
		Workload:      workload.Options{LaunchImage: "trainrelay-agent:dev", GatewayURL: "http://gateway:8080"},
		PolicyFile:    policyFile(t, "{}"),
		Log:           c.log.With().Str("agent", name).Logger(),
	}}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *station) start() {
	s.t.Helper()
	s.o.Registry = prometheus.NewRegistry()
	a, err := agent.New(s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("agent %s: %v", s.o.PodName, err)
		}
	})
}

func (s *station) restart() {
	s.stop()
	s.start()
}

// newHome makes a namespace for the agent itself, as azureml is, with what the
// chart puts there.
func newHome(t *testing.T) string {
	t.Helper()
	home := bareNamespace(t, nil)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: agent.LeaseName}}
	if _, err := site.Client().CoordinationV1().Leases(home).Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	own := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: agentUser, Namespace: home}, Rules: rules(chart.Namespace)}
	if _, err := site.Client().RbacV1().Roles(home).Create(t.Context(), own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := site.Client().RbacV1().RoleBindings(home).Create(t.Context(), roleBinding(home), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return home
}

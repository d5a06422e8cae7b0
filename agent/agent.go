// Package agent is the side in the cluster: it takes attempts from the relay,
// runs them as Kubernetes Jobs, and tells what became of them.
//
// It wires the rooms below it and owns their goroutines. A [Daemon] is one pod
// for as long as it lives: it joins the relay (join), then runs an [Agent] with
// the credentials, and another one where there are others. Every pod of the
// agent's DaemonSet ships the output of its node's training pods (logs) and
// serves them (gateway). One of them leads: a Lease decides which. Only the
// leader watches the cluster's Jobs (cluster) and speaks for it (link).
//
//	relay ◀── line ──┬── link ◀──▶ cluster ──▶ Kubernetes API    the leader
//	                 ├── logs ◀── pods                           every pod
//	                 └── gateway ◀── training pods               every pod
//
// The connection to the relay is opened while something needs it: by the
// leader, and by pods whose node has output to ship. It goes through the site's
// proxy; the Kubernetes API server never does.
//
// # When things fail
//
// A relay or an API server that is away is waited for, as are a cluster's
// joining and a policy of its admin that can be used; /readyz says so. A leader
// that loses its lease stops its rooms before anything else;
// one that is stopped ends its work first and then gives the lease up, so that
// the next leads within seconds. Nothing is kept on disk: whatever dies, the
// next process reads all it needs from the API server and the relay.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/process"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// requestsPerSecond bounds what the agent asks of the API server; client-go
	// would allow 5.
	requestsPerSecond = 200
	// stopTimeout bounds the stopping of everything.
	stopTimeout = 25 * time.Second
)

// Options are what an Agent is made of.
type Options struct {
	Relay *url.URL // https://host[:port]; http is for tests on loopback
	NATS  *url.URL // tls:// or nats://host[:port] of its NATS server; nil for a WebSocket at the relay
	Dial  dial.Options

	Cluster     string   // the cluster's name at the relay
	Seed        []byte   // of the nkey that the relay knows the cluster by
	SealSeeds   [][]byte // of the curve keys that values are sealed to, newest first
	GatewaySeed []byte   // of the tokens of training pods
	Trust       protocol.Trust
	// SaveTrust keeps what is to be trusted from now on; LoadTrust is what was
	// saved last, maybe by another pod.
	SaveTrust func(context.Context, protocol.Trust) error
	LoadTrust func(context.Context) (protocol.Trust, error)
	// Trouble is told, and must not block, when the relay cannot be reached or
	// refuses the key; it may be missing.
	Trouble func()

	Kube         *rest.Config
	InCluster    bool     // this is a pod, which finds Services by their names
	Namespaces   []string // where Jobs may be
	NodeName     string
	PodName      string
	PodNamespace string // of the agent

	GatewayListen string // host:port
	Workload      workload.Options
	PolicyFile    string // of the cluster's admin; see package policy
	ExtensionFile string // what is applied of the extension; see package extension

	MaxUnscheduled int // see cluster.Options; 0 for its default
	MaxLive        int

	Log      zerolog.Logger
	Registry *prometheus.Registry
}

func (o *Options) validate() error {
	var errs []error
	need := func(what string, missing bool) {
		if missing {
			errs = append(errs, errors.New("no "+what))
		}
	}
	switch {
	case o.Relay == nil || o.Relay.Host == "":
		errs = append(errs, errors.New("no URL of the relay; expected https://host[:port]"))
	case o.Relay.Scheme != "https" && o.Relay.Scheme != "http":
		errs = append(errs, fmt.Errorf("the relay's URL has scheme %q; expected https://host[:port]", o.Relay.Scheme))
	}
	if o.NATS != nil && (o.NATS.Host == "" || o.NATS.User != nil || o.NATS.Scheme != "tls" && o.NATS.Scheme != "nats") {
		errs = append(errs, errors.New("the URL of the relay's NATS server is not one; expected tls://host[:port], without a user"))
	}
	errs = append(errs, protocol.CheckLabel("cluster", o.Cluster))
	need("configuration of the Kubernetes API", o.Kube == nil)
	need("node name", o.NodeName == "")
	need("pod name", o.PodName == "")
	need("namespace of the agent", o.PodNamespace == "")
	need("address for the gateway", o.GatewayListen == "")
	need("policy file", o.PolicyFile == "")
	need("registry of metrics", o.Registry == nil)
	return errors.Join(errs...)
}

// Agent is one pod of the agent.
type Agent struct {
	o       Options
	key     nkeys.KeyPair
	dialer  *dial.Dialer
	client  kubernetes.Interface
	leases  kubernetes.Interface // with a budget of its own: a busy leader renews in time
	checks  process.Checks
	checked atomic.Pointer[protocol.Check] // the newest self-check, while or after leading
	line    *line
	nodes   *nodes
	rooms   rooms
}

// New checks the options and makes an Agent, which does nothing before Run.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("agent: options: %w", err)
	}
	if o.Trouble == nil {
		o.Trouble = func() {}
	}
	a := &Agent{o: o}
	var err error
	if a.key, err = nkeys.FromSeed(o.Seed); err != nil {
		return nil, errors.New("agent: the nkey seed cannot be read")
	}
	if err := a.connectKube(); err != nil {
		return nil, fmt.Errorf("agent: Kubernetes API: %w", err)
	}
	if a.dialer, err = dial.New(a.o.Dial); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	line, err := busOptions(a.o, a.dialer, a.key)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	line.OnState = func(connected bool, err error) {
		a.rooms.link.Connection(connected, err)
		if !connected {
			a.o.Trouble()
		}
	}
	a.line = newLine(line)
	a.nodes = newNodes(a.client, o)
	if err := a.furnish(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// connectKube makes the clients of the API server, which is always reached
// directly, whatever the environment says of proxies.
func (a *Agent) connectKube() (err error) {
	config := directly(a.o.Kube)
	config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	if a.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 5, 10
	a.leases, err = kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return fmt.Errorf("address of the API server: %w", err)
	}
	if host := server.Hostname(); host != "" {
		a.o.Dial.AlwaysDirect = append(a.o.Dial.AlwaysDirect, host)
	}
	return nil
}

// Run works until ctx is done, then stops everything, the last started first.
// It returns an error where a part cannot start or fails for good.
func (a *Agent) Run(ctx context.Context) (err error) {
	var stack process.Stack
	stack.Log = a.o.Log
	failed := make(chan error, 1)
	start := func(name string, run func(context.Context) error) {
		stack.Push(name, spawn(ctx, name, run, failed))
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, stack.Stop(stopping))
	}()

	gateway, err := net.Listen("tcp", a.o.GatewayListen)
	if err != nil {
		return fmt.Errorf("agent: listen for the gateway: %w", err)
	}
	a.o.Log.Info().Str("relay", a.o.Relay.Host).Str("route", a.dialer.Route(hostPort(a.o.Relay))).Str("cluster", a.o.Cluster).Msg("agent starts")
	start("line", a.line.run)
	start("gateway", func(ctx context.Context) error { return a.rooms.gateway.Serve(ctx, gateway) })
	start("logs", a.rooms.logs.Run)
	start("pods", a.watchPods)
	start("leader", a.elect)

	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// spawn runs a part under a context of its own, and returns how to stop it.
// What ends before it is stopped has failed.
func spawn(ctx context.Context, name string, run func(context.Context) error, failed chan<- error) (stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("it ended by itself")
			}
			select {
			case failed <- fmt.Errorf("agent: %s: %w", name, err):
			default:
			}
		}
		done <- err
	}()
	return func(ctx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

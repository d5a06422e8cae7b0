package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"github.com/trainrelay/trainrelay/agent/join"
	"github.com/trainrelay/trainrelay/internal/process"
	"github.com/trainrelay/trainrelay/protocol"
)

// lookPause is how long, at least, a pod that has trouble with the relay waits
// before it looks for other credentials again; it waits up to three times that.
const lookPause = 5 * time.Second

// rejoinPause is how often a token is tried again, where the agent works without.
const rejoinPause = time.Minute

// DaemonOptions are what a Daemon is made of.
type DaemonOptions struct {
	// Agent has no credentials, no Trouble and no Registry: the daemon gives each
	// agent its own.
	Agent Options
	// Secret of the agent's namespace holds the credentials.
	Secret string
	// JoinTokenFile holds a join token, if it is there.
	JoinTokenFile string
	HealthListen  string // host:port of /healthz, /readyz and /metrics
	// Registry has what outlives an agent.
	Registry *prometheus.Registry
}

// Daemon is one pod of the agent for as long as it lives.
type Daemon struct {
	o       DaemonOptions
	join    *join.Join
	checks  process.Checks // while there is no agent
	current atomic.Pointer[Agent]
}

// NewDaemon checks the options and makes a Daemon, which does nothing before
// Run.
func NewDaemon(o DaemonOptions) (*Daemon, error) {
	if o.HealthListen == "" || o.Registry == nil || o.Agent.Kube == nil {
		return nil, errors.New("agent: options: the address for health, the registry of metrics or the configuration of the Kubernetes API is missing")
	}
	j, err := newJoin(o)
	if err != nil {
		return nil, err
	}
	d := &Daemon{o: o, join: j}
	d.checks.Add("join", j.Ready)
	return d, nil
}

// newJoin makes what gets and keeps the credentials.
func newJoin(o DaemonOptions) (*join.Join, error) {
	client, err := kubernetes.NewForConfig(directly(o.Agent.Kube))
	if err != nil {
		return nil, fmt.Errorf("agent: Kubernetes API: %w", err)
	}
	j, err := join.New(join.Options{
		Relay: o.Agent.Relay, Dial: o.Agent.Dial,
		Secrets: client.CoreV1().Secrets(o.Agent.PodNamespace), Secret: o.Secret, TokenFile: o.JoinTokenFile,
		Log: o.Agent.Log.With().Str("room", "join").Logger(),
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return j, nil
}

// Run joins and works until ctx is done. It returns an error where a part
// cannot start or fails for good.
func (d *Daemon) Run(ctx context.Context) (err error) {
	health, err := net.Listen("tcp", d.o.HealthListen)
	if err != nil {
		return fmt.Errorf("agent: listen for health: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	failed := make(chan error, 1)
	stop := spawn(ctx, "health", func(ctx context.Context) error { return d.serveHealth(ctx, health) }, failed)
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	go func() {
		select {
		case <-ctx.Done():
		case err := <-failed:
			cancel(err)
		}
	}()
	for {
		have, err := d.join.Await(ctx)
		if err != nil {
			return nil // only ctx ends the wait; what ended health is joined above
		}
		if again, err := d.work(ctx, have); !again {
			return err
		}
	}
}

// errOthers ends an agent's work where the cluster has joined anew.
var errOthers = errors.New("there are other credentials")

// work runs an agent until ctx is done, and reports whether to start over.
func (d *Daemon) work(ctx context.Context, have join.Credentials) (again bool, err error) {
	trouble := make(chan struct{}, 1)
	options := d.equip(have, trouble)
	a, err := New(options)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch(ctx, have, trouble, cancel)
	}()
	d.current.Store(a)
	err = a.Run(ctx)
	d.current.Store(nil)
	again = context.Cause(ctx) == errOthers
	cancel(nil)
	<-watched
	if again {
		d.o.Agent.Log.Info().AnErr("stopped", err).Msg("the cluster has other credentials now: starting over with them")
	}
	return again, err
}

// equip gives an agent, or a check of one, its credentials, and the authority
// that the relay said is its own.
func (d *Daemon) equip(have join.Credentials, trouble chan<- struct{}) Options {
	o := d.o.Agent
	o.Cluster, o.Seed, o.GatewaySeed, o.Trust = have.Cluster, []byte(have.Seed), have.GatewaySeed, have.Trust
	o.Dial.RootCAs = join.Authorities(o.Dial.RootCAs, have.Trust.CA)
	for _, seed := range have.SealSeeds {
		o.SealSeeds = append(o.SealSeeds, []byte(seed))
	}
	o.Registry = prometheus.NewRegistry()
	o.Trouble = func() {
		select {
		case trouble <- struct{}{}:
		default:
		}
	}
	o.LoadTrust = func(ctx context.Context) (protocol.Trust, error) { return d.join.LoadTrust(ctx, have) }
	o.SaveTrust = func(ctx context.Context, trust protocol.Trust) error {
		err := d.join.SaveTrust(ctx, have, trust)
		if err == nil && trust.CA != have.Trust.CA {
			o.Trouble() // start over, to dial with it
		}
		return err
	}
	return o
}

// watch looks for other credentials whenever there is trouble with the relay,
// and now and then while a token waits to be used, and ends the agent's work
// where there are.
func (d *Daemon) watch(ctx context.Context, have join.Credentials, trouble <-chan struct{}, end context.CancelCauseFunc) {
	for {
		var retry <-chan time.Time
		if d.join.Pending() {
			retry = time.After(rejoinPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-trouble:
		case <-retry:
		}
		if now, err := d.join.Look(ctx); err == nil && !now.Equal(have) {
			end(errOthers)
			return
		}
		pause := time.NewTimer(lookPause + rand.N(2*lookPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

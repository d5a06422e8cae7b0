package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/extension"
	"github.com/trainrelay/trainrelay/agent/gateway"
	"github.com/trainrelay/trainrelay/agent/inventory"
	"github.com/trainrelay/trainrelay/agent/link"
	"github.com/trainrelay/trainrelay/agent/logs"
	"github.com/trainrelay/trainrelay/agent/policy"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/internal/version"
	"github.com/trainrelay/trainrelay/protocol"
)

// rooms are the agent's parts, wired to each other.
type rooms struct {
	link    *link.Link
	cluster *cluster.Cluster
	logs    *logs.Logs
	gateway *gateway.Gateway
	// extension says what there is of the extension that the relay wants.
	extension *extension.Extension
	// inventory says what the cluster has, and whether its computes can work.
	inventory *inventory.Inventory
}

// furnish makes the rooms. Link and cluster know each other; neither does
// anything before both are there.
func (a *Agent) furnish() (err error) {
	r := &a.rooms
	tokens, err := gateway.NewTokens(a.o.GatewaySeed)
	if err != nil {
		return err
	}
	rules, err := policy.NewFile(a.o.PolicyFile, policyOptions(a.o.Workload))
	if err != nil {
		return err
	}
	r.cluster, err = cluster.New(cluster.Options{
		Client:        a.client,
		Namespaces:    a.o.Namespaces,
		Workload:      a.o.Workload,
		Policy:        rules,
		Token:         tokens.Token,
		Mark:          tokens.Mark,
		InstanceTypes: func() map[string]protocol.InstanceType { return r.inventory.InstanceTypes() },
		Open: func(p seal.Purpose, sealed *protocol.Sealed) ([]byte, error) {
			return seal.Open(a.o.SealSeeds, p, sealed)
		},
		Observe:        func(e protocol.Event) { r.link.Observe(e) },
		Changed:        func() { r.link.Wake() },
		Log:            a.o.Log.With().Str("room", "cluster").Logger(),
		MaxUnscheduled: a.o.MaxUnscheduled,
		MaxLive:        a.o.MaxLive,
	})
	if err != nil {
		return err
	}
	r.link, err = link.New(link.Options{
		Conn:       a.line,
		Cluster:    a.o.Cluster,
		Workloads:  r.cluster,
		Info:       a.info,
		Check:      a.checked.Load,
		Found:      func() *protocol.Found { return r.inventory.Found() },
		Wanted:     func(c []protocol.Compute, e *protocol.Extension) { r.inventory.Want(c, e) },
		Trust:      a.o.Trust,
		SaveTrust:  a.o.SaveTrust,
		LoadTrust:  a.o.LoadTrust,
		Log:        a.o.Log.With().Str("room", "link").Logger(),
		Registerer: a.o.Registry,
	})
	if err != nil {
		return err
	}
	r.logs, err = logs.New(logs.Options{
		Pods:       a.client.CoreV1(),
		Send:       a.sendLog,
		Log:        a.o.Log.With().Str("room", "logs").Logger(),
		Registerer: a.o.Registry,
	})
	if err != nil {
		return err
	}
	r.gateway, err = gateway.New(gateway.Options{
		Relay:      a.o.Relay,
		Transport:  watched{a.dialer.Transport(), a.o.Trouble},
		Authorize:  func(r *http.Request) error { return authorize(r, a.key, a.o.Relay.Hostname()) },
		Tokens:     tokens,
		Log:        a.o.Log.With().Str("room", "gateway").Logger(),
		Registerer: a.o.Registry,
	})
	if err != nil {
		return err
	}
	r.extension, err = extension.New(extension.Options{
		Client: a.client, Namespace: a.o.PodNamespace, File: a.o.ExtensionFile, Cluster: a.o.Cluster,
	})
	if err != nil {
		return err
	}
	r.inventory, err = inventory.New(inventory.Options{
		Client:      a.client,
		Place:       a.place(rules),
		Resources:   workload.ResourcesOf,
		Tolerations: workload.TolerationsOf,
		Extension:   r.extension.Found,
		Way:         a.way,
		Changed:     func() { r.link.Wake() },
		Log:         a.o.Log.With().Str("room", "inventory").Logger(),
	})
	if err != nil {
		return err
	}
	a.checks.Add("relay", a.linked)
	return nil
}

// policyOptions tell the policy what the agent itself puts into Jobs.
func policyOptions(o workload.Options) policy.Options {
	return policy.Options{
		LaunchImage: o.LaunchImage,
		Timeout: func(job *batchv1.Job) time.Duration {
			return time.Duration(workload.TimeoutSeconds(job)) * time.Second
		},
	}
}

// busOptions are those of a connection to the relay.
func busOptions(o Options, dialer *dial.Dialer, key nkeys.KeyPair) (bus.Options, error) {
	public, err := key.PublicKey()
	if err != nil {
		return bus.Options{}, fmt.Errorf("the nkey seed: %w", err)
	}
	at := url.URL{Scheme: "wss", Host: o.Relay.Host}
	if o.Relay.Scheme == "http" {
		at.Scheme = "ws"
	}
	if o.NATS != nil {
		at = *o.NATS
	}
	return bus.Options{
		URL:         at.String(),
		Dialer:      dialer,
		TLS:         dialer.TLSConfig(),
		Nkey:        public,
		Sign:        key.Sign,
		InboxPrefix: protocol.InboxPrefix(o.Cluster),
		Name:        o.PodName,
		Log:         o.Log.With().Str("room", "line").Logger(),
	}, nil
}

// watched is a transport to the relay that tells when the relay refuses the
// agent's key.
type watched struct {
	http.RoundTripper
	trouble func()
}

func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		w.trouble()
	}
	return resp, err
}

// sendLog sends output over the line, which it opens for that.
func (a *Agent) sendLog(ctx context.Context, chunk *protocol.LogChunk) (*protocol.LogReply, error) {
	release, err := a.line.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return a.rooms.link.SendLog(ctx, chunk)
}

// info is what the agent says of itself.
func (a *Agent) info() protocol.Info {
	return protocol.Info{
		AgentVersion:      version.Short(),
		KubernetesVersion: a.nodes.kubernetes(),
		Leader:            a.o.PodName,
		Nodes:             len(a.nodes.ready()),
	}
}

// linked says what keeps the leader from being in step with the relay. Pods
// that do not lead have nothing to wait for.
func (a *Agent) linked(context.Context) error {
	status := a.rooms.link.Status()
	switch {
	case !status.Leading:
		return nil
	case status.Breach != "":
		return fmt.Errorf("the last answer that claims to be the relay's was not believed: %s", status.Breach)
	case status.LastSync.IsZero() || time.Since(status.LastSync) > protocol.PresenceTimeout:
		if status.LastError != "" {
			return errors.New(status.LastError)
		}
		return errors.New("the first sync with the relay is under way")
	}
	return cmp.Or(a.rooms.cluster.Synced(), a.rooms.cluster.Refusing())
}

// serverVersion asks the API server for its version; empty where it does not
// say.
func serverVersion(ctx context.Context, client discovery.ServerVersionInterfaceWithContext) string {
	info, err := client.ServerVersionWithContext(ctx)
	if err != nil {
		return ""
	}
	return info.GitVersion
}

// hostPort is where the relay listens.
func hostPort(relay *url.URL) string {
	if relay.Port() != "" {
		return relay.Host
	}
	return net.JoinHostPort(relay.Hostname(), map[string]string{"https": "443", "http": "80"}[relay.Scheme])
}

// directly is the way to the Kubernetes API without a proxy, whatever the
// environment says of proxies.
func directly(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	return config
}

// lead watches the cluster and speaks for it until ctx is done, or the relay
// refuses this leader.
func (a *Agent) lead(ctx context.Context) error {
	release, err := a.line.hold(ctx)
	if err != nil {
		return nil // only ctx ends the wait
	}
	defer release()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.rooms.cluster.Run(ctx) })
	g.Go(func() error { return a.watchAll(ctx) })
	g.Go(func() error { a.checkAlways(ctx); return nil })
	g.Go(func() error { return a.rooms.inventory.Run(ctx) })
	g.Go(func() error {
		a.awaitCluster(ctx)
		return a.rooms.link.Lead(ctx)
	})
	return g.Wait()
}

// awaitCluster gives the cluster's caches a moment to fill, so that the first
// sync can take work. Where they do not, that sync says why.
func (a *Agent) awaitCluster(ctx context.Context) {
	_ = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, cachePatience, true, func(context.Context) (bool, error) {
		return a.rooms.cluster.Synced() == nil, nil
	})
}

// cachePatience is how long the first sync waits for the caches.
const cachePatience = 5 * time.Second

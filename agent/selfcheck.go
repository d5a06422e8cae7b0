package agent

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/agent/check"
	"github.com/trainrelay/trainrelay/agent/policy"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

// Check tries everything that a daemon with the options depends on, and changes
// nothing: a join token is not used. wrong is what is wrong with the options
// already; nil for nothing.
func Check(ctx context.Context, o DaemonOptions, wrong error) *protocol.Check {
	if wrong != nil {
		return check.Run(ctx, checkOptions(o.Agent, wrong))
	}
	j, err := newJoin(o)
	if err != nil {
		return check.Run(ctx, checkOptions(o.Agent, err))
	}
	d := &Daemon{o: o, join: j}
	asked, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	have, err := d.join.Have(asked)
	if err != nil {
		c := checkOptions(o.Agent, nil)
		c.Credentials = err
		return check.Run(ctx, c)
	}
	return check.Run(ctx, checkOptions(d.equip(have, nil), nil))
}

// checkOptions are those of a check of an agent with the options.
func checkOptions(o Options, wrong error) check.Options {
	c := check.Options{
		Settings: wrong, Relay: o.Relay, NATS: o.NATS, Cluster: o.Cluster, Dial: o.Dial, Authority: []byte(o.Trust.CA),
		ClusterDNS: o.InCluster, Home: o.PodNamespace, Computes: o.Namespaces,
	}
	if o.Kube != nil {
		c.Kube = directly(o.Kube)
		if server, err := url.Parse(o.Kube.Host); err == nil && server.Hostname() != "" {
			c.Dial.AlwaysDirect = append(slices.Clone(c.Dial.AlwaysDirect), server.Hostname())
		}
	}
	if o.PolicyFile != "" {
		c.Policy = func() error { return usable(o.PolicyFile) }
	}
	key, err := nkeys.FromSeed(o.Seed)
	if err != nil {
		c.Credentials = errors.New("the agent has no key that can be read")
		return c
	}
	c.Authorize = func(r *http.Request) error { return authorize(r, key, o.Relay.Hostname()) }
	c.Connect = func(ctx context.Context) error { return tryBus(ctx, o, c.Dial, key) }
	return c
}

// usable says what keeps a file from being a policy.
func usable(policyFile string) error {
	file, err := policy.NewFile(policyFile, policyOptions(workload.Options{}))
	if err != nil {
		return err
	}
	return file.Usable()
}

// authorize signs a request to the relay's HTTP side.
func authorize(r *http.Request, key nkeys.KeyPair, relay string) error {
	token, err := agentauth.Sign(key, relay, time.Now())
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// tryBus connects to the relay's broker once, and closes the connection.
func tryBus(ctx context.Context, o Options, by dial.Options, key nkeys.KeyPair) error {
	dialer, err := dial.New(by)
	if err != nil {
		return err
	}
	options, err := busOptions(o, dialer, key)
	if err != nil {
		return err
	}
	options.Name += " (check)"
	options.Log = zerolog.Nop() // the result says it
	conn, err := bus.Connect(ctx, options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.LastError()
}

const (
	// secretTimeout bounds the reading of the credentials.
	secretTimeout = 10 * time.Second
	// checkEvery is how often a leader checks, while all is well with its link.
	checkEvery = 10 * time.Minute
	// checkAfter is how long the link fails before a check says why.
	checkAfter = time.Minute
	// checkLook is how often a leader looks whether a check is due.
	checkLook = 5 * time.Second
)

// checkAlways checks when leading begins, then every so often, and once soon
// after the link has failed for a while, until ctx is done.
func (a *Agent) checkAlways(ctx context.Context) {
	look := time.NewTicker(checkLook)
	defer look.Stop()
	var r rounds
	for {
		if r.due(time.Now(), a.rooms.link.Status().LastError != "") {
			found := check.Run(ctx, checkOptions(a.o, nil))
			if ctx.Err() != nil {
				return
			}
			a.report(found)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// report keeps a check for the relay, and logs what fails where that is news.
func (a *Agent) report(found *protocol.Check) {
	before := a.checked.Swap(found)
	for _, r := range found.Results {
		if !r.OK && !r.Skipped && !hasResult(before, r) {
			a.o.Log.Warn().Str("check", r.Name).Str("fix", r.Fix).Msg(strings.TrimSuffix(r.Detail, "."))
		}
	}
	a.rooms.link.Wake()
}

func hasResult(c *protocol.Check, r protocol.CheckResult) bool {
	return c != nil && slices.Contains(c.Results, r)
}

// rounds says when checks are due.
type rounds struct {
	last    time.Time
	failing time.Time // since when the link fails; zero while it does not
	told    bool      // whether a check was done about this failure
}

// due is asked often, with whether the link fails.
func (r *rounds) due(now time.Time, fails bool) bool {
	switch {
	case !fails:
		r.failing, r.told = time.Time{}, false
	case r.failing.IsZero():
		r.failing = now
	}
	lasting := fails && !r.told && now.Sub(r.failing) >= checkAfter
	if !r.last.IsZero() && now.Sub(r.last) < checkEvery && !lasting {
		return false
	}
	r.last, r.told = now, r.told || lasting
	return true
}

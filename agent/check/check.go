// Package check tries, one after the other, everything that an agent depends
// on: its settings, names, the proxy, the relay's certificate, the relay itself
// and its clock, the credentials, the WebSocket, the Kubernetes API and the
// agent's rights there, and the admin's policy.
//
// Each check is the real thing, done as the agent does it: a tunnel through the
// proxy, a signed request, a connection to the broker. Each says what was
// found and, where it failed, what to do about it. A check that makes no sense
// after another has failed is not tried, and says after which. Nothing is
// changed anywhere, no result holds a secret, and every check ends in bounded
// time.
package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

// patience bounds one check.
const patience = 30 * time.Second

// Options are what is checked. What is missing of the optional ones is not.
type Options struct {
	// Settings is what is wrong with the agent's settings as a whole, where
	// something is; nothing else is tried then.
	Settings error

	Relay   *url.URL
	NATS    *url.URL     // of its NATS server, tls or nats; nil where the agent connects to the relay
	Cluster string       // the cluster's name at the relay
	Dial    dial.Options // as the agent dials
	// Authority (PEM) is the relay's own, where it has one and the agent knows
	// it: any other on the relay's certificate is a proxy's.
	Authority []byte
	// ClusterDNS: this is a pod, which finds Services by their names.
	ClusterDNS bool

	// Kube is the way to the API server; optional.
	Kube     *rest.Config
	Home     string   // the agent's own namespace
	Computes []string // where Jobs may be

	// Credentials is why the agent has none, where it has none.
	Credentials error
	// Authorize signs a request to the relay.
	Authorize func(*http.Request) error
	// Connect opens a connection to the broker as the agent does, and closes it.
	Connect func(context.Context) error
	// Policy reads the admin's policy; optional.
	Policy func() error

	Now func() time.Time // time.Now where missing
}

// Run does all checks.
func Run(ctx context.Context, o Options) *protocol.Check {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &checker{o: o}
	check := &protocol.Check{Time: o.Now().UTC()}
	bad := make(map[string]bool)
	for _, p := range c.probes() {
		result := p.result(ctx, bad)
		bad[p.name] = !result.OK
		check.Results = append(check.Results, result)
	}
	return check
}

// checker holds what a check leaves for the next.
type checker struct {
	o      Options
	addr   string // of the relay, host:port
	nats   string // of its NATS server, host:port; empty where there is none to go to
	dialer *dial.Dialer
	client kubernetes.Interface
	offset time.Duration // how far the relay's clock is ahead
	timed  bool          // whether the relay said its time
}

// probe is one check.
type probe struct {
	name  string
	needs []string // checks without whose success it is not tried
	// try returns what it found. The error is a *fault where something is to
	// be done about it.
	try func(context.Context) (string, error)
}

func (c *checker) probes() []probe {
	all := []probe{
		{"settings", nil, c.settings},
		{"no-proxy", []string{"settings"}, c.noProxy},
	}
	if c.o.ClusterDNS {
		all = append(all, probe{"cluster-dns", []string{"settings"}, clusterDNS})
	}
	if c.o.Kube != nil {
		all = append(all,
			probe{"api-server", []string{"no-proxy"}, c.apiServer},
			probe{"rights", []string{"api-server"}, c.rights})
	}
	all = append(all,
		probe{"dns", []string{"settings"}, c.dns},
		probe{"proxy", []string{"dns"}, c.proxy},
		probe{"tls", []string{"proxy"}, c.tls},
		probe{"relay", []string{"tls"}, c.relay},
		probe{"clock", []string{"relay"}, c.clock},
		probe{"credentials", []string{"clock"}, c.credentials}, // where clocks differ, a good key is refused, too
		probe{"websocket", []string{"credentials"}, c.websocket})
	if c.o.Policy != nil {
		all = append(all, probe{"policy", []string{"settings"}, c.policy})
	}
	return all
}

// result tries the check, unless one that it needs has failed.
func (p probe) result(ctx context.Context, bad map[string]bool) protocol.CheckResult {
	result := protocol.CheckResult{Name: p.name}
	for _, need := range p.needs {
		if bad[need] {
			result.Skipped, result.Detail = true, "not tried: "+need+" has to be in order first"
			return result
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := p.try(ctx)
	if err == nil {
		result.OK, result.Detail = true, line(found)
		return result
	}
	result.Detail = line(err.Error())
	if f, ok := errors.AsType[*fault](err); ok {
		result.Fix = line(f.fix)
	}
	return result
}

// line makes one printable line of a text, which may hold a stranger's words.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	return protocol.Cut(strings.Join(strings.Fields(text), " "), protocol.MaxCheckText)
}

// fault is what is wrong and what to do about it.
type fault struct {
	err error
	fix string
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// faulty makes a fault; fix is what to do.
func faulty(fix, format string, args ...any) error {
	return &fault{err: fmt.Errorf(format, args...), fix: fix}
}

// undialed makes a fault of what could not be dialled. The hint of the
// connection's error wins over the fix.
func undialed(err error, fix string) error {
	e, ok := errors.AsType[*dial.Error](err)
	if !ok {
		return &fault{err, fix}
	}
	if e.Hint != "" {
		fix = e.Hint
	}
	bare := *e
	bare.Hint = ""
	return &fault{&bare, fix}
}

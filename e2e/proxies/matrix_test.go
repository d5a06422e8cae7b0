package proxies

import (
	"strings"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// row is one way out.
type row struct {
	id   string
	name string // in the table
	// proxy makes the proxy that HTTPS_PROXY names.
	proxy   func(t *testing.T, name string) *proxy
	noProxy string // the agent has the open place, too, and is to pass the proxy by
	byIP    bool   // the relay is named by its address
	bumped  bool   // the proxy intercepts TLS
	// blocked are the transports that cannot work, and what is said then.
	blocked map[string]string
}

var (
	transports = []string{"wss", "tls", "nats"}

	plainSquid = func(t *testing.T, name string) *proxy { return squid(t, name, squidOptions{}) }

	rows = []row{
		{id: "squid", name: "squid, user and password", proxy: plainSquid},
		{id: "squid-tls", name: "squid reached over TLS, own CA", proxy: func(t *testing.T, name string) *proxy {
			return squid(t, name, squidOptions{tls: true})
		}},
		{id: "tinyproxy", name: "tinyproxy, user and password", proxy: tinyproxy},
		{id: "microsocks", name: "SOCKS5: microsocks, user and password", proxy: microsocks},
		{id: "dante", name: "SOCKS5: dante, user and password", proxy: dante},
		{id: "bump", name: "squid that intercepts TLS, its CA trusted, WebSockets let through", bumped: true,
			proxy:   func(t *testing.T, name string) *proxy { return squid(t, name, squidOptions{bump: true, upgrade: true}) },
			blocked: map[string]string{"tls": "intercepts TLS", "nats": "intercepts TLS"}},
		{id: "bump-only", name: "squid that intercepts TLS, its CA trusted, as it comes", bumped: true,
			proxy:   func(t *testing.T, name string) *proxy { return squid(t, name, squidOptions{bump: true}) },
			blocked: map[string]string{"wss": "WebSocket", "tls": "intercepts TLS", "nats": "intercepts TLS"}},
		{id: "direct-host", name: "NO_PROXY: host", proxy: plainSquid, noProxy: relayName + "," + natsName},
		{id: "direct-suffix", name: "NO_PROXY: .suffix", proxy: plainSquid, noProxy: "." + relayDomain},
		{id: "direct-cidr", name: "NO_PROXY: CIDR", proxy: plainSquid, noProxy: "10.78.0.0/24", byIP: true},
		{id: "direct-port", name: "NO_PROXY: host:port", proxy: plainSquid, noProxy: relayTarget + "," + natsPlain + "," + natsTLS},
	}
)

// TestProxyMatrix: each way out with each transport. The table in
// docs/proxies.md is what came of it.
func TestProxyMatrix(t *testing.T) {
	natsCA := startNATS(t)
	results := make(map[string]map[string]bool)
	for _, r := range rows {
		results[r.id] = make(map[string]bool)
	}
	t.Run("rows", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.id, func(t *testing.T) {
				t.Parallel()
				r.try(t, natsCA, results[r.id])
			})
		}
	})
	if !t.Failed() {
		checkTable(t, results)
	}
}

// try fills the cells of the row.
func (r row) try(t *testing.T, natsCA []byte, works map[string]bool) {
	p := r.proxy(t, r.id).start()
	s := setup{proxy: p.url(), proxyCA: p.ca, noProxy: r.noProxy, open: r.noProxy != ""}
	addr := map[string]string{"wss": relayTarget, "tls": natsTLS, "nats": natsPlain}
	if r.byIP {
		addr = map[string]string{"wss": relayIP + ":" + relayPort, "tls": cloudIP + ":4223", "nats": cloudIP + ":4222"}
	}
	for _, transport := range transports {
		s := s
		var why string
		if transport == "wss" {
			s.relay = "https://" + addr[transport]
			why = r.tryAgent(t, s)
		} else {
			s.ca = natsCA
			if r.bumped {
				s.ca = p.ca
			}
			why = reaches(t, r.id+"-"+transport, transport+"://"+addr[transport], s)
		}
		works[transport] = why == ""
		want, blocked := r.blocked[transport]
		if blocked == works[transport] || !strings.Contains(why, want) {
			t.Errorf("%s: %q is said, want something with %q", transport, why, want)
		}
		if strings.Contains(why, proxyPassword) || strings.Contains(why, proxyUserInfo) {
			t.Errorf("%s: the password is in %q", transport, why)
		}
	}
	p.stop()
	targets := p.targets()
	for _, transport := range transports {
		n := targets[addr[transport]]
		_, blocked := r.blocked[transport]
		switch {
		case r.noProxy != "" && n > 0:
			t.Errorf("%s: the proxy, which was to be passed by, carried %d", transport, n)
		case r.noProxy == "" && !blocked && n == 0:
			t.Errorf("%s: it works and the proxy's log does not know: %v", transport, targets)
		case r.noProxy == "" && !blocked && transport == "wss" && n < 2:
			t.Errorf("the proxy carried %d to the relay, want the connection and the code", n)
		}
	}
	for target := range targets {
		if !strings.Contains(target, "."+relayDomain+":") {
			t.Errorf("the proxy led to %s, which is inside", target)
		}
	}
}

// tryAgent runs the agent through a job, or returns why it is not ready.
func (r row) tryAgent(t *testing.T, s setup) (why string) {
	a := newAgent(t, r.id, s)
	defer a.stop()
	if r.blocked["wss"] != "" {
		return a.waits("websocket")
	}
	a.connects()
	if !s.open {
		a.isConfined()
	}
	a.works()
	return ""
}

// isConfined checks that where the agent is, neither a name outside resolves
// nor the relay's address is reached.
func (a *agent) isConfined() {
	a.t.Helper()
	in := host.Space{Net: agentsPlace, PID: a.process.PID()}
	if out, err := host.Exec(a.t.Context(), in, "getent", "hosts", relayName); err == nil {
		a.t.Errorf("the relay's name resolves where the agent is: %s", out)
	}
	if _, err := host.Exec(a.t.Context(), in, "bash", "-c", "exec 3<>/dev/tcp/"+relayIP+"/"+relayPort); err == nil ||
		!strings.Contains(err.Error(), "unreachable") {
		a.t.Errorf("dialling the relay from where the agent is: %v", err)
	}
	if _, err := host.Exec(a.t.Context(), in, "bash", "-c", "exec 3<>/dev/tcp/"+siteIP+"/6443"); err != nil {
		a.t.Errorf("dialling the API server from where the agent is: %v", err)
	}
}

// waits waits until /readyz says something with text, and returns it.
func (a *agent) waits(text string) (report string) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		ok, said := a.ready()
		if !ok && strings.Contains(strings.ToLower(said), strings.ToLower(text)) {
			return said
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("/readyz does not say %q but, ready %v:\n%s", text, ok, said)
		}
	}
}

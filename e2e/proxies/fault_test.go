package proxies

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// fault is one failure of the way out.
type fault struct {
	id string
	// want is what is said of it, everywhere.
	want string
	// check is what trainrelay-agent check says, where it has words of its own.
	check string
	// begin makes the fault and what the agent is told; mend takes the fault
	// away and leaves the agent alone.
	begin func(t *testing.T) (s setup, mend func())
	// alone keeps the other faults waiting: it is mended at the relay of all.
	alone bool
}

// swap is a fault of one proxy that another at the same address does not have.
func swap(broken, mended *proxy, s setup) (setup, func()) {
	broken.start()
	return s, func() {
		broken.stop()
		mended.start()
	}
}

func anonymous(p *proxy) string { return p.scheme + "://" + p.addr }

var faults = []fault{
	{id: "wrong-password", want: "the proxy does not accept the user and password of its URL", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "wrong-password", squidOptions{})
		p.password("another")
		p.start()
		return setup{proxy: p.url()}, func() { p.password(proxyPassword) }
	}},
	{id: "no-password", want: "the proxy wants user and password: put them into its URL", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "no-password", squidOptions{})
		open := squid(t, "no-password", squidOptions{addr: p.addr, rules: "http_access allow all"})
		return swap(p, open, setup{proxy: anonymous(p)})
	}},
	{id: "dead", want: "nothing listens at the proxy's address: is the proxy running", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "dead", squidOptions{})
		return setup{proxy: p.url()}, func() { p.start() }
	}},
	{id: "unreachable", want: "the proxy cannot be reached from here: check the proxy setting and the firewall", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "unreachable", squidOptions{addr: nobodyIP + ":3128"})
		return setup{proxy: p.url()}, func() {
			if _, err := host.Exec(t.Context(), host.Space{Net: proxiesPlace}, "ip", "address", "add", nobodyIP+"/24", "dev", "site"); err != nil {
				t.Fatal(err)
			}
			p.start()
		}
	}},
	{id: "hangs", want: "the proxy took the connection but opened no tunnel", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "hangs", squidOptions{}).start()
		if err := p.process.Pause(); err != nil {
			t.Fatal(err)
		}
		return setup{proxy: p.url()}, func() {
			if err := p.process.Resume(); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{id: "refuses", want: "the proxy answered 403 Forbidden (ERR_ACCESS_DENIED 0); ask who runs the proxy to allow CONNECT to the target", check: "fix: ask who runs the proxy to allow CONNECT to the target", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "refuses", squidOptions{rules: "http_access deny all"})
		return swap(p, squid(t, "refuses", squidOptions{addr: p.addr}), setup{proxy: p.url()})
	}},
	{id: "intercepts", want: "the certificate is of a CA that is unknown here: give the CA of the target, or of the proxy if that one intercepts TLS", check: "fix: if that is a proxy's authority, which looks into TLS, add its certificate", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "intercepts", squidOptions{bump: true, upgrade: true})
		return swap(p, squid(t, "intercepts", squidOptions{addr: p.addr}), setup{proxy: p.url()})
	}},
	{id: "unknown-name", want: "the proxy cannot reach the target: does it resolve the target's name", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "unknown-name", squidOptions{})
		p.command.hosts = nil
		return swap(p, squid(t, "unknown-name", squidOptions{addr: p.addr}), setup{proxy: p.url()})
	}},
	{id: "other-proxy-ca", want: "the proxy's certificate is of a CA that is unknown here: give it as the proxy's CA", begin: func(t *testing.T) (setup, func()) {
		authority := testkit.NewAuthority(t)
		p := squid(t, "other-proxy-ca", squidOptions{tls: true})
		return swap(p, squid(t, "other-proxy-ca", squidOptions{tls: true, addr: p.addr, authority: authority}),
			setup{proxy: p.url(), proxyCA: authority.PEM})
	}},
	{id: "https-for-http", want: "the proxy does not speak TLS at this port: its URL should begin with http://", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "https-for-http", squidOptions{})
		secured := squid(t, "https-for-http", squidOptions{tls: true, addr: p.addr})
		return swap(p, secured, setup{proxy: secured.url(), proxyCA: secured.ca})
	}},
	{id: "http-for-https", want: "its URL begins with https:// then", begin: func(t *testing.T) (setup, func()) {
		p := squid(t, "http-for-https", squidOptions{tls: true})
		plain := squid(t, "http-for-https", squidOptions{addr: p.addr})
		return swap(p, plain, setup{proxy: plain.url()})
	}},
	{id: "socks-wrong-password", want: "the proxy does not accept the user and password of its URL", begin: func(t *testing.T) (setup, func()) {
		p := microsocksAt(t, "socks-wrong-password", "", "another")
		return swap(p, microsocksAt(t, "socks-wrong-password", p.addr, proxyPassword), setup{proxy: p.url()})
	}},
	{id: "socks-unknown-name", want: "the proxy cannot reach the target: does it resolve the target's name", begin: func(t *testing.T) (setup, func()) {
		p := microsocks(t, "socks-unknown-name")
		p.command.hosts = nil
		return swap(p, microsocksAt(t, "socks-unknown-name", p.addr, proxyPassword), setup{proxy: p.url()})
	}},
	{id: "no-websocket", want: "426 Upgrade Required, is not a relay's: a proxy that intercepts TLS lets no WebSocket through",
		begin: func(t *testing.T) (setup, func()) {
			authority := testkit.NewAuthority(t)
			p := squid(t, "no-websocket", squidOptions{bump: true, authority: authority})
			return swap(p, squid(t, "no-websocket", squidOptions{bump: true, upgrade: true, addr: p.addr, authority: authority}),
				setup{proxy: p.url(), proxyCA: p.ca})
		}},
	{id: "other-name", want: "the certificate is for another name: check the address", check: "or start the relay with --host " + otherName,
		alone: true, begin: func(t *testing.T) (setup, func()) {
			p := squid(t, "other-name", squidOptions{}).start()
			return setup{proxy: p.url(), relay: "https://" + otherName + ":" + relayPort}, func() {
				world.relay.restart(t, "--host", otherName)
				t.Cleanup(func() { world.relay.restart(t) })
			}
		}},
}

// TestProxyFaults: each failure is told on /readyz, in the log and by check, in
// words that say what to do; once it is mended, the same process joins and
// works.
func TestProxyFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.id, func(t *testing.T) {
			if !f.alone {
				t.Parallel()
			}
			s, mend := f.begin(t)
			a := newAgent(t, "fault-"+f.id, s)
			report := a.waits(f.want)
			log, check := a.log(), a.check()
			for place, text := range map[string]string{"/readyz": report, "log": log, "check": check} {
				if place == "log" { // JSON
					text = strings.ReplaceAll(text, `\"`, `"`)
				}
				want := f.want
				if place == "check" {
					want = cmp.Or(f.check, f.want)
				}
				if !strings.Contains(text, want) {
					t.Errorf("%s does not say %q but:\n%s", place, want, text)
				}
				for _, secret := range []string{proxyPassword, proxyUserInfo} {
					if strings.Contains(text, secret) {
						t.Errorf("the password is in %s:\n%s", place, text)
					}
				}
			}
			if c, err := world.relay.Cluster(t.Context(), a.name); err != nil || c.LastSync != nil {
				t.Errorf("the relay has heard of it: %+v, %v", c, err)
			}
			mend()
			a.connects()
			a.works()
		})
	}
}

// TestGatewayTellsPods: a pod that fetches its code while the proxy is away is
// told why, and gets it once the proxy is back.
func TestGatewayTellsPods(t *testing.T) {
	t.Parallel()
	p := squid(t, "gateway", squidOptions{}).start()
	a := newAgent(t, "gateway", setup{proxy: p.url()})
	a.connects()
	name := a.submit()
	awaitJob(t, a.name, name)
	for fault, want := range map[string]string{
		"dead": "nothing listens at the proxy's address", "refuses": "403 Forbidden",
	} {
		p.stop()
		other := squid(t, "gateway-refuses", squidOptions{addr: p.addr, rules: "http_access deny all"})
		if fault == "refuses" {
			other.start()
		}
		status, body := a.code(name)
		if status != http.StatusBadGateway || !strings.Contains(body, want) || strings.Contains(body, proxyPassword) {
			t.Errorf("%s: the pod is told %d %s", fault, status, body)
		}
		other.stop()
		p.start()
		a.fetches(name)
	}
	if err := succeed(t.Context(), awaitPod(t, awaitJob(t, a.name, name))); err != nil {
		t.Fatal(err)
	}
	a.completes(name)
}

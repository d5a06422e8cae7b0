package dial

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/testkit"
)

func TestSquid(t *testing.T) {
	host, port, err := net.SplitHostPort(greeter(t))
	if err != nil {
		t.Fatal(err)
	}
	// Squid is the one that knows the name.
	relay, denied := net.JoinHostPort("relay.example", port), net.JoinHostPort("denied.example", port)
	opts := testkit.ProxyOptions{Hosts: map[string]string{relay: net.JoinHostPort(host, port)}, Denied: []string{denied}}
	open := testkit.Squid(t, opts)
	opts.User, opts.Password = user, "s3cret"
	guarded := testkit.Squid(t, opts)

	t.Run("no authentication", func(t *testing.T) { dialThrough(t, open, "", "", relay) })
	t.Run("basic", func(t *testing.T) { dialThrough(t, guarded, user, "s3cret", relay) })
	t.Run("basic, wrong", func(t *testing.T) {
		refusedBy(t, guarded, user, password, relay, StageProxyAuth, 407)
	})
	t.Run("basic, missing", func(t *testing.T) { refusedBy(t, guarded, "", "", relay, StageProxyAuth, 407) })
	t.Run("denied", func(t *testing.T) { refusedBy(t, open, user, password, denied, StageTunnel, 403) })
	t.Run("unknown name", func(t *testing.T) {
		// 500, 502 or 503, as its resolver fails.
		d := newDialer(t, Options{HTTPSProxy: proxyURL("http", open, user, password)})
		_, err := d.DialContext(t.Context(), "tcp", "nowhere.invalid:443")
		if e := checkError(t, err, StageTunnel); !strings.Contains(e.Hint, "cannot reach the target") {
			t.Errorf("hint is %q", e.Hint)
		}
	})
}

func TestTinyproxy(t *testing.T) {
	relay := outside(t)
	open := testkit.Tinyproxy(t, testkit.ProxyOptions{})
	guarded := testkit.Tinyproxy(t, testkit.ProxyOptions{User: user, Password: "s3cret"})
	t.Run("no authentication", func(t *testing.T) { dialThrough(t, open, "", "", relay) })
	t.Run("basic", func(t *testing.T) { dialThrough(t, guarded, user, "s3cret", relay) })
	t.Run("basic, wrong", func(t *testing.T) {
		refusedBy(t, guarded, user, password, relay, StageProxyAuth, 401)
	})
	t.Run("basic, missing", func(t *testing.T) { refusedBy(t, guarded, "", "", relay, StageProxyAuth, 407) })
}

func TestSquidOverTLS(t *testing.T) {
	if out, err := exec.Command("/usr/sbin/squid", "-v").Output(); err == nil && !strings.Contains(string(out), "--with-openssl") {
		t.Skip("this squid cannot be reached by TLS: apt-get install squid-openssl")
	}
	authority := testkit.NewAuthority(t)
	guarded := testkit.Squid(t, testkit.ProxyOptions{User: user, Password: "s3cret", Authority: authority})
	relay := outside(t)
	d := newDialer(t, Options{HTTPSProxy: proxyURL("https", guarded, user, "s3cret"), ProxyCA: authority.PEM})
	conn, err := d.DialContext(t.Context(), "tcp", relay)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
	_, err = newDialer(t, Options{HTTPSProxy: proxyURL("http", guarded, user, password)}).DialContext(t.Context(), "tcp", relay)
	if e := checkError(t, err, StageTunnel); !strings.Contains(e.Hint, "begins with https://") {
		t.Errorf("hint is %q: %v", e.Hint, err)
	}
}

func TestMicrosocks(t *testing.T) {
	guarded := testkit.Microsocks(t, testkit.ProxyOptions{User: user, Password: "s3cret"})
	dial := func(password, target string) (net.Conn, error) {
		return newDialer(t, Options{HTTPSProxy: proxyURL("socks5", guarded, user, password)}).DialContext(t.Context(), "tcp", target)
	}
	conn, err := dial("s3cret", outside(t))
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
	_, err = dial(password, outside(t))
	checkError(t, err, StageProxyAuth)
	_, err = dial("s3cret", "nowhere.invalid:443")
	if e := checkError(t, err, StageTunnel); e.Hint != hintUnreached {
		t.Errorf("hint is %q: %v", e.Hint, err)
	}
}

func dialThrough(t *testing.T, proxy, user, password, target string) {
	t.Helper()
	d := newDialer(t, Options{HTTPSProxy: proxyURL("http", proxy, user, password)})
	conn, err := d.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
}

func refusedBy(t *testing.T, proxy, user, password, target string, stage Stage, status int) {
	t.Helper()
	d := newDialer(t, Options{HTTPSProxy: proxyURL("http", proxy, user, password)})
	_, err := d.DialContext(t.Context(), "tcp", target)
	if e := checkError(t, err, stage); e.Status != status {
		t.Errorf("status is %d, want %d: %v", e.Status, status, err)
	}
}

// outside is a greeter at an address of this machine that is not loopback,
// which would be dialled directly.
func outside(t *testing.T) (addr string) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || !ip.IP.IsGlobalUnicast() {
			continue
		}
		return serveAt(t, net.JoinHostPort(ip.IP.String(), "0"), greet)
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

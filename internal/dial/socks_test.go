package dial

import (
	"bufio"
	"io"
	"net"
	"testing"
)

// socks is a SOCKS5 proxy that leads every name to one place. It wants the
// user and the password if there is a user.
func socks(t *testing.T, user, password, to string) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		field := func() string { // length and bytes
			n, _ := r.ReadByte()
			b := make([]byte, n)
			_, _ = io.ReadFull(r, b)
			return string(b)
		}
		_, _ = r.Discard(1) // version
		_ = field()         // methods
		if user != "" {
			_, _ = conn.Write([]byte{5, 2})
			_, _ = r.Discard(1)
			if u, p := field(), field(); u != user || p != password {
				_, _ = conn.Write([]byte{1, 1})
				return
			}
			_, _ = conn.Write([]byte{1, 0})
		} else {
			_, _ = conn.Write([]byte{5, 0})
		}
		_, _ = r.Discard(4) // version, CONNECT, reserved, a name follows
		if name := field(); name != "relay.example" {
			_, _ = conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		_, _ = r.Discard(2)
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		go func() { _, _ = io.Copy(out, r) }()
		_, _ = io.Copy(conn, out)
	})
}

func TestSOCKS(t *testing.T) {
	open := socks(t, "", "", greeter(t))
	guarded := socks(t, user, password, greeter(t))
	closed := serve(t, func(net.Conn) {})
	for _, test := range []struct {
		name   string
		proxy  string
		target string
		stage  Stage
	}{
		{"no authentication", "socks5://" + open, target, ""},
		{"name resolved by the proxy", "socks5h://" + open, target, ""},
		{"password", proxyURL("socks5", guarded, user, password), target, ""},
		{"wrong password", proxyURL("socks5", guarded, "bob", password), target, StageProxyAuth},
		{"unreachable target", proxyURL("socks5", open, "", ""), "nowhere.example:443", StageTunnel},
		{"proxy closes", proxyURL("socks5", closed, user, password), target, StageTunnel},
		{"proxy is dead", proxyURL("socks5", "127.0.0.1:1", user, password), target, StageConnect},
		{"proxy's name is unknown", proxyURL("socks5", "proxy.invalid:1", user, password), target, StageResolve},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := newDialer(t, Options{HTTPSProxy: test.proxy}).DialContext(t.Context(), "tcp", test.target)
			if test.stage != "" {
				checkError(t, err, test.stage)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			talk(t, conn)
		})
	}
}

package relay

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestConnectionsAreBounded: the front takes as many connections as it is to,
// and one more when one of them ends.
func TestConnectionsAreBounded(t *testing.T) {
	s := serveWith(t, Options{Data: t.TempDir()}, func(o *FrontOptions) { o.MaxConnections = 2 })
	ask := func(patience time.Duration) (net.Conn, error) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.config.URL, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		trust := s.trust()
		trust.ServerName = "127.0.0.1"
		secure := tls.Client(conn, trust)
		if _, err := fmt.Fprint(secure, "GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n"); err != nil {
			return conn, err
		}
		answer, err := http.ReadResponse(bufio.NewReader(secure), nil)
		if err == nil {
			err = answer.Body.Close()
		}
		return conn, err
	}
	var first net.Conn
	for range 2 {
		conn, err := ask(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		first = conn
	}
	third, err := ask(500 * time.Millisecond)
	if err == nil {
		t.Error("one too many is answered")
	}
	for _, conn := range []net.Conn{third, first} {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ask(20 * time.Second); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
}

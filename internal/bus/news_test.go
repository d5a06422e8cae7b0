package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// TestLogIsShort: a proxy that cuts connections all day fills no log.
func TestLogIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := zerolog.New(&out).Level(zerolog.InfoLevel)
		var n news
		n.back(log)
		for i := range 120 { // an hour
			time.Sleep(30 * time.Second)
			local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000 + i}
			n.lost(log, fmt.Errorf("wrapped: %w", &net.OpError{Op: "read", Net: "tcp", Source: local, Err: errors.New("reset")}))
			n.back(log)
		}
		if lines := strings.Count(out.String(), "\n"); lines < 100 || lines > 1+2*61 {
			t.Errorf("%d lines in an hour", lines)
		}
		out.Reset()
		n.lost(log, errors.New("something else"))
		n.lost(log, errors.New("something else"))
		n.back(log)
		n.back(log)
		if lines := strings.Count(out.String(), "\n"); lines != 2 {
			t.Errorf("%d lines of a new cause, want the loss and the return:\n%s", lines, out.String())
		}
	})
}

// TestWrongAnswers: each answer in place of a WebSocket says what it may be.
func TestWrongAnswers(t *testing.T) {
	authority := testkit.NewAuthority(t)
	for answer, want := range map[string]string{
		"HTTP/1.1 426 Upgrade Required\r\n\r\n":       "426 Upgrade Required, is not a relay's: a proxy that intercepts TLS lets no WebSocket",
		"HTTP/1.1 503 Service Unavailable\r\n\r\n":    "503 Service Unavailable, is not a relay's: the relay is starting",
		"HTTP/1.1 404 Not Found\r\n\r\n":              "404 Not Found, is not a relay's: the address may be wrong",
		"HTTP/1.1 403 Forbidden\r\n\r\n":              "403 Forbidden, is not a relay's",
		"220 mail.example.com ESMTP\r\n\r\n":          "the answer is not a relay's",
		strings.Repeat("x", 200) + "\r\n\r\n":         "the answer is not a relay's",
		"HTTP/1.1 200 OK\r\nhunter2: hunter2\r\n\r\n": "200 OK, is not a relay's",
	} {
		addr := httpAnswer(t, authority, answer)
		c := connect(t, Options{URL: "wss://" + addr, Dialer: newDialer(t, dial.Options{RootCAs: authority.PEM})})
		_, err := c.State()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("to %q it says %v, want something with %q", answer, err, want)
		}
	}
}

// httpAnswer is a TLS server that says the same to everybody.
func httpAnswer(t *testing.T, authority *testkit.Authority, answer string) (addr string) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer)
	}), TLSConfig: authority.Server("127.0.0.1")}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

func FuzzStatus(f *testing.F) {
	for _, seed := range []string{"HTTP/1.1 426 Upgrade Required\r\n", "HTTP/1.1 20", "HTTP/1.", "HTTP/1.1 -10\r\n", "INFO {}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		status := statusOf(line)
		if status != 0 && (status < 100 || status > 999 || !bytes.Contains(line, fmt.Appendf(nil, " %d", status))) {
			t.Errorf("%q has status %d", line, status)
		}
		if text := notRelay(status); strings.Contains(text, "\n") {
			t.Errorf("%q", text)
		}
	})
}

package dial

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a proxy that says the same to everybody, once it was asked.
func answering(t *testing.T, answer string) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
	})
}

func TestAnswer(t *testing.T) {
	echo := "CONNECT relay.example:443 HTTP/1.1\r\nProxy-Authorization: Basic YWxpY2U6cGE6c3NAdy9yZCMx\r\n\r\n"
	for _, test := range []struct {
		name   string
		answer string
		want   string // what comes out of the tunnel
		error  string // what the error says instead
		status int
	}{
		{name: "server speaks first", answer: "HTTP/1.1 200 OK\r\n\r\nINFO {}\r\n", want: "INFO {}\r\n"},
		{name: "HTTP/1.0", answer: "HTTP/1.0 200 Connection established\r\n\r\nINFO", want: "INFO"},
		{name: "another 2xx", answer: "HTTP/1.1 204 Fine\r\n\r\nINFO", want: "INFO"},
		{name: "length is ignored", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nINFO", want: "INFO"},
		{name: "chunks are ignored", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nINFO", want: "INFO"},
		{name: "long tunnel", answer: "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 3*maxAnswer), want: strings.Repeat("x", 3*maxAnswer)},
		{name: "nothing", error: "closed the connection"},
		{name: "cut off", answer: "HTTP/1.1 200 OK\r\nX: y", error: "closed the connection"},
		{name: "garbage", answer: "\x16\x03\x01 hello\n\n", error: "not HTTP"},
		{name: "SSH", answer: "SSH-2.0-OpenSSH\r\n\r\n", error: "not HTTP"},
		{name: "echo", answer: echo, error: "not HTTP"},
		{name: "echo for a header", answer: "HTTP/1.1 200 OK\r\nYWxpY2U6cGE6c3NAdy9yZCMx\r\n\r\n", error: "not HTTP"},
		{name: "endless header", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 2*maxAnswer), error: "more than 16384 bytes"},
		{name: "echo in the reason", answer: "HTTP/1.1 500 " + echo[:20] + password + "\r\n\r\n", error: "answered 500 Internal Server Error", status: 500},
		{name: "squid's reason", answer: "HTTP/1.1 503 No\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n", error: "503 Service Unavailable (ERR_DNS_FAIL 0)", status: 503},
		{name: "strange reason", answer: "HTTP/1.1 503 No\r\nX-Squid-Error: " + password + "\r\n\r\n", error: "answered 503 Service Unavailable; ", status: 503},
		{name: "redirect", answer: "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", error: "answered 302 Found", status: 302},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDialer(t, Options{HTTPSProxy: proxyURL("http", answering(t, test.answer), user, password)})
			conn, err := d.DialContext(t.Context(), "tcp", target)
			if test.error != "" {
				e := checkError(t, err, StageTunnel)
				if !strings.Contains(err.Error(), test.error) {
					t.Errorf("error is %q, want something with %q", err, test.error)
				}
				if e.Status != test.status {
					t.Errorf("status is %d, want %d", e.Status, test.status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got, err := io.ReadAll(conn)
			if string(got) != test.want || err != nil {
				t.Errorf("tunnel gave %d bytes, %v; want %d", len(got), err, len(test.want))
			}
		})
	}
}

// A tunnel has no deadline once it is open.
func TestReleaseLiftsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		release := bind(ctx, ours)
		if release() {
			t.Fatal("the context had not ended")
		}
		cancel()
		time.Sleep(time.Hour) // of the bubble's clock
		go func() {
			_, _ = io.WriteString(theirs, "hello")
			_ = theirs.Close()
		}()
		if got, err := io.ReadAll(ours); string(got) != "hello" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func FuzzConnect(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nINFO"))
	f.Add([]byte("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				_, _ = theirs.Write(answer)
			}
		}()
		conn, err := connect(ours, url.UserPassword(user, password), target)
		if err == nil {
			rest, _ := io.ReadAll(conn)
			if !strings.HasSuffix(string(answer), string(rest)) {
				t.Errorf("tunnel gave %q, which does not end %q", rest, answer)
			}
		} else if e := new(Error); !errors.As(err, &e) {
			t.Errorf("error is %T", err)
		} else {
			checkSecrets(t, err)
		}
		_ = ours.Close()
		<-done
	})
}

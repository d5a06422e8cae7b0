package api

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// pipes is a listener whose connections are of the bubble, like its clock.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// TestBodyThatDoesNotCome: whoever announces a body and sends none holds his
// connection for a while, with or without a token, and not for ever; a request
// without a body may take as long as it likes.
func TestBodyThatDoesNotCome(t *testing.T) {
	made := httptest.NewTLSServer(nil) // for its certificate
	made.Close()
	trust := x509.NewCertPool()
	trust.AddCert(made.Certificate())
	synctest.Test(t, func(t *testing.T) {
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		a, err := New(Options{
			Log: zerolog.Nop(), Health: ok, Metrics: ok, Broker: "http://127.0.0.1:1", Audit: new(page),
			User: func(string) (v1.Identity, error) { return v1.Identity{}, errors.New("not known") },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Stop()
		mux := http.NewServeMux()
		mux.Handle("/", a)
		mux.Handle("/slow", a.observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(2 * bodyTimeout):
				w.WriteHeader(http.StatusTeapot)
			case <-r.Context().Done():
			}
		})))
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second, IdleTimeout: time.Second, ErrorLog: stdlog.New(io.Discard, "", 0), TLSConfig: made.TLS}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.ServeTLS(listener, "", "") })
		defer serving.Wait()
		defer server.Close()

		for _, tc := range []struct {
			request, length string
			status          int
		}{
			{"POST /v1/jobs", "Content-Length: 10", http.StatusUnauthorized},
			{"POST /v1/jobs", "Transfer-Encoding: chunked", http.StatusUnauthorized},
			{"GET /healthz", "Content-Length: 10", http.StatusOK},
			{"GET /nats", "Content-Length: 10", http.StatusUpgradeRequired},
			{"POST /v1/agent/enrol", "Content-Length: 10", http.StatusRequestTimeout},
			{"GET /slow", "Accept: */*", http.StatusTeapot},
		} {
			theirs, ours := net.Pipe()
			listener.conns <- theirs
			conn := tls.Client(ours, &tls.Config{RootCAs: trust, ServerName: "example.com"})
			began := time.Now()
			if err := conn.SetDeadline(began.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: relay.example\r\n%s\r\n\r\n", tc.request, tc.length); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s, %s: no answer: %v", tc.request, tc.length, err)
			}
			_, err = io.Copy(io.Discard, r) // until the server closes the connection
			if took := time.Since(began); err != nil || answer.StatusCode != tc.status || took > 3*bodyTimeout {
				t.Errorf("%s, %s: %s; closed after %v: %v", tc.request, tc.length, answer.Status, took, err)
			}
			_ = answer.Body.Close()
			_ = conn.Close()
		}
	})
}

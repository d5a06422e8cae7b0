package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a server that looks at its files all the time.
type watched struct {
	*Server
	changed chan time.Time
	failed  chan error
}

func watch(t *testing.T, opts Options) *watched {
	t.Helper()
	w := &watched{load(t, opts), make(chan time.Time, 16), make(chan error, 16)}
	w.look = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		w.Run(ctx, func(at time.Time) { w.changed <- at }, func(err error) { w.failed <- err })
	})
	t.Cleanup(func() { cancel(); run.Wait() })
	return w
}

// pair writes a certificate chain and key into a new folder, and returns its
// serial number.
func pair(t *testing.T, dir string) (serial string) {
	t.Helper()
	made := load(t, Options{Dir: filepath.Join(t.TempDir(), "tls"), Hosts: []string{"relay.example"}})
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"server.crt": "tls.crt", "server.key": "tls.key"} {
		content, err := os.ReadFile(filepath.Join(made.opts.Dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return made.current.Load().Leaf.SerialNumber.String()
}

// swap points a link elsewhere at once, as the kubelet does.
func swap(t *testing.T, link, to string) {
	t.Helper()
	if err := os.Symlink(to, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}

// echo serves TLS with the certificate of the time, and sends back what comes.
func echo(t *testing.T, s *Server) (addr string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

// dial connects with a client that looks at nothing but the serial number.
func dial(t *testing.T, addr string) (conn *tls.Conn, serial string) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestReload: the operator's files are read anew when a link to them is
// swapped, as in a Kubernetes Secret; one that cannot be used is reported once,
// and the certificate before it goes on. Connections stay.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	first, second := pair(t, in("..1")), pair(t, in("..2"))
	third := pair(t, in("..4"))
	broken := pair(t, in("..3"))
	if err := os.WriteFile(in("..3/tls.key"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"..data": "..1", "tls.crt": "..data/tls.crt", "tls.key": "..data/tls.key"} {
		if err := os.Symlink(to, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, Options{CertFile: in("tls.crt"), KeyFile: in("tls.key")})
	addr := echo(t, w.Server)
	open, serial := dial(t, addr)
	if serial != first {
		t.Fatal("not the first certificate")
	}

	swap(t, in("..data"), "..2")
	if at := <-w.changed; at.Before(time.Now().Add(serverLife / 2)) {
		t.Errorf("the new one is said to expire at %v", at)
	}
	if _, serial := dial(t, addr); serial != second {
		t.Error("the new certificate is not served")
	}

	swap(t, in("..data"), "..3")
	if err := <-w.failed; !strings.Contains(err.Error(), in("tls.key")) {
		t.Error(err)
	}
	for range 50 { // while the files are looked at again
		if _, serial := dial(t, addr); serial != second || serial == broken {
			t.Error("the old certificate does not go on")
		}
	}

	swap(t, in("..data"), "..4")
	<-w.changed
	if _, serial := dial(t, addr); serial != third {
		t.Error("the third certificate is not served")
	}
	if len(w.failed) > 0 {
		t.Errorf("reported again: %v", <-w.failed)
	}
	if _, err := open.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("still here"))
	if _, err := io.ReadFull(open, answer); err != nil {
		t.Errorf("the connection that was open: %v", err)
	}
}

// TestHalfReplaced: between a new certificate and its key there is nothing to
// report, if both are there soon.
func TestHalfReplaced(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	pair(t, dir)
	want := pair(t, next)
	w := load(t, Options{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")})
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			w.Run(ctx, func(time.Time) { changes++ }, func(err error) { t.Errorf("reported: %v", err) })
		})
		time.Sleep(lookEvery / 2)
		for _, name := range []string{"tls.crt", "tls.key"} { // one look in between
			if err := os.Rename(filepath.Join(next, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookEvery)
		}
		time.Sleep(2 * lookEvery)
		cancel()
		run.Wait()
		if serial := w.current.Load().Leaf.SerialNumber.String(); changes != 1 || serial != want {
			t.Errorf("%d changes, serving %s, want %s", changes, serial, want)
		}
	})
}

// TestReplacedMeanwhile: a certificate that comes before anybody looks, or while
// the one before is being read, is not overlooked.
func TestReplacedMeanwhile(t *testing.T) {
	dir, second, third := t.TempDir(), t.TempDir(), t.TempDir()
	pair(t, dir)
	pair(t, second)
	want := pair(t, third)
	replace := func(from string) {
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Rename(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	w := load(t, Options{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")})
	replace(second)
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			w.Run(ctx, func(time.Time) {
				if changes++; changes == 1 {
					replace(third)
				}
			}, func(err error) { t.Errorf("reported: %v", err) })
		})
		time.Sleep(10 * lookEvery)
		cancel()
		run.Wait()
		if serial := w.current.Load().Leaf.SerialNumber.String(); changes != 2 || serial != want {
			t.Errorf("%d changes, serving %s, want %s", changes, serial, want)
		}
	})
}

// TestReloadOwn: what the relay made for itself is read anew, too, and made
// anew where somebody took it away.
func TestReloadOwn(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, Options{Dir: dir})
	addr := echo(t, w.Server)
	_, first := dial(t, addr)
	if err := os.Remove(filepath.Join(dir, "server.key")); err != nil {
		t.Fatal(err)
	}
	<-w.changed
	if _, serial := dial(t, addr); serial == first {
		t.Error("the old certificate is served on")
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-w.failed; !strings.Contains(err.Error(), "authority") {
		t.Error(err)
	}
	dial(t, addr)
}

// TestOldTLS: TLS 1.1 and older are refused; 1.2 and 1.3 are spoken.
func TestOldTLS(t *testing.T) {
	s := load(t, Options{Dir: t.TempDir()})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority(t, s))
	addr := echo(t, s)
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.DialWithDialer(new(net.Dialer), "tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = conn.Close()
		} else if !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s is refused for another reason: %v", tls.VersionName(version), err)
		}
	}
}

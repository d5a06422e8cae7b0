package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func load(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Load(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake connects to a server with s's certificate as a client that trusts
// the authority, and returns the certificate it saw.
func handshake(t *testing.T, s *Server, authority []byte, name string) (*x509.Certificate, error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, conn) // shakes hands, and waits for the client to leave
			_ = conn.Close()
		}
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.ConnectionState().PeerCertificates[0], nil
}

func authority(t *testing.T, s *Server) []byte {
	t.Helper()
	return []byte(s.Authority())
}

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	s := load(t, Options{Dir: dir, Hosts: []string{"relay.example", "10.1.2.3"}})
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "relay.example", "10.1.2.3"} {
		if _, err := handshake(t, s, authority(t, s), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !s.Names(name) {
			t.Errorf("%s is not a name of the server", name)
		}
	}
	if _, err := handshake(t, s, authority(t, s), "other.example"); err == nil || s.Names("other.example") {
		t.Error("good for a name that was not asked for")
	}
	for _, key := range []string{"ca.key", "server.key"} {
		if info, err := os.Stat(filepath.Join(dir, key)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info.Mode(), err)
		}
	}
}

func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	opts := Options{Dir: dir, Now: func() time.Time { return now }}
	first := load(t, opts)
	trusted := authority(t, first)
	serial := func(s *Server) string { return s.current.Load().Leaf.SerialNumber.String() }

	if again := load(t, opts); serial(again) != serial(first) {
		t.Error("a restart made another certificate")
	}
	opts.Hosts = []string{"relay.example"}
	named := load(t, opts)
	if serial(named) == serial(first) || !named.Names("relay.example") {
		t.Error("another name did not make another certificate")
	}
	now = now.Add(serverLife - renewBefore + time.Hour)
	before := serial(named)
	if err := named.Renew(); err != nil {
		t.Fatal(err)
	}
	if serial(named) == before || named.current.Load().Leaf.NotAfter.Sub(now) < serverLife-time.Hour {
		t.Error("not renewed before its end")
	}
	if err := os.WriteFile(filepath.Join(dir, "server.crt"), []byte("cut"), 0o644); err != nil {
		t.Fatal(err)
	}
	if repaired := load(t, opts); !repaired.Names("relay.example") {
		t.Error("a broken certificate was not replaced")
	}
	if !bytes.Equal(trusted, authority(t, named)) {
		t.Error("the authority changed")
	}
}

func TestAuthorityIsNeverReplaced(t *testing.T) {
	for name, harm := range map[string]func(key string) error{
		"lost key":   os.Remove,
		"broken key": func(key string) error { return os.WriteFile(key, []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			trusted := authority(t, load(t, Options{Dir: dir}))
			if err := harm(filepath.Join(dir, "ca.key")); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(Options{Dir: dir}); err == nil {
				t.Error("started with half an authority")
			}
			if now, err := os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil || !bytes.Equal(now, trusted) {
				t.Error("the authority changed:", err)
			}
		})
	}
}

func TestOwnFiles(t *testing.T) {
	made := t.TempDir()
	other := load(t, Options{Dir: made, Hosts: []string{"relay.example"}})
	cert, key := filepath.Join(made, "server.crt"), filepath.Join(made, "server.key")
	dir := filepath.Join(t.TempDir(), "unused")
	s := load(t, Options{Dir: dir, CertFile: cert, KeyFile: key})
	if _, err := handshake(t, s, authority(t, other), "relay.example"); err != nil {
		t.Error(err)
	}
	if pem := authority(t, s); len(pem) > 0 {
		t.Error("claims an authority")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("made files beside the operator's:", err)
	}
	later := func() time.Time { return time.Now().Add(2 * serverLife) }
	for name, tc := range map[string]struct {
		opts Options
		want string
	}{
		"one of two": {Options{Dir: dir, CertFile: cert}, "both files or neither"},
		"missing":    {Options{Dir: dir, CertFile: cert + "s", KeyFile: key}, "server.crts"},
		"expired":    {Options{Dir: dir, CertFile: cert, KeyFile: key, Now: later}, "renew it"},
		"bad host":   {Options{Dir: dir, Hosts: []string{"relay.example:443"}}, "a port does not belong"},
	} {
		if _, err := Load(tc.opts); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}

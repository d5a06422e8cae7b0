// Package certs gives the relay's HTTPS server its certificate: a private
// authority and a server certificate, made at the first start and kept in a
// folder, or files that the operator provides.
//
// The authority lives ten years and is what users and agents trust. A year before
// its end the next one is made and announced beside it, and takes over when most
// of that year is over: who has asked in between notices nothing. The server
// certificate lives one, and is renewed by itself when it is about to expire or
// the relay's names have changed, at start and while the relay runs. Files that
// somebody changes, the operator's or those made here, are read anew within
// seconds; connections that are open stay. What fails is an error the caller
// reports; the old certificate goes on until its end. Private keys are readable
// by their owner only.
package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Lifetimes of what is made here.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = 30 * 24 * time.Hour
	// renewEvery is how often that is looked at.
	renewEvery = 12 * time.Hour
	// lookEvery is how often the files are looked at.
	lookEvery = 2 * time.Second
)

// Options of a server's certificate.
type Options struct {
	// Dir is the folder of the authority and the server certificate.
	Dir string
	// Hosts are the DNS names and IP addresses by which the relay is reached,
	// besides localhost, the loopback addresses and the machine's name.
	Hosts []string
	// CertFile and KeyFile name the operator's own certificate chain and key,
	// PEM; then nothing is made. Both or neither.
	CertFile, KeyFile string
	// Now tells the time; nil for time.Now.
	Now func() time.Time
}

// Server is the server's certificate, the newest there is.
type Server struct {
	opts    Options
	current atomic.Pointer[tls.Certificate]
	trust   atomic.Pointer[string] // what Authority is
	loaded  [sha256.Size]byte      // what the files were before Load read them
	look    time.Duration          // lookEvery, but in tests
}

// Load reads the certificate, and makes one where there is none that will do.
func Load(opts Options) (*Server, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if (opts.CertFile == "") != (opts.KeyFile == "") {
		return nil, errors.New("certificate: one of certificate and key is missing: give both files or neither")
	}
	s := &Server{opts: opts, look: lookEvery}
	s.loaded = s.print()
	return s, s.Renew()
}

// Renew replaces the certificate if it is time, or reads the operator's files
// again.
func (s *Server) Renew() error {
	load := s.own
	if s.opts.CertFile == "" {
		load = s.made
	}
	cert, err := load()
	if err != nil {
		return err
	}
	trust, err := s.announced()
	if err != nil {
		return err
	}
	s.current.Store(cert)
	s.trust.Store(&trust)
	return nil
}

// TLS is the configuration of the HTTPS server.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.current.Load(), nil
		},
	}
}

// Names reports whether the certificate is good for the host name or address.
func (s *Server) Names(host string) bool {
	return s.current.Load().Leaf.VerifyHostname(host) == nil
}

// Authority is what clients must trust, PEM: the authority and, when its end
// comes, the next one, too; empty where the operator's own certificate is used,
// of which clients know the authority themselves.
func (s *Server) Authority() string { return *s.trust.Load() }

// AuthorityFile is where the authority lies that signs.
func (s *Server) AuthorityFile() string { return filepath.Join(s.opts.Dir, "ca.crt") }

// own reads the operator's files.
func (s *Server) own() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(s.opts.CertFile, s.opts.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", s.opts.CertFile, s.opts.KeyFile, err)
	}
	if s.opts.Now().After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate %s expired at %s: renew it", s.opts.CertFile, cert.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &cert, nil
}

// made returns the certificate in the folder, or makes a new one.
func (s *Server) made() (*tls.Certificate, error) {
	authority, err := s.authority()
	if err != nil {
		return nil, fmt.Errorf("the relay's own authority: %w", err)
	}
	certFile, keyFile := filepath.Join(s.opts.Dir, "server.crt"), filepath.Join(s.opts.Dir, "server.key")
	hosts := s.hosts()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil && s.does(cert.Leaf, authority.Leaf, hosts) {
		return &cert, nil
	}
	// Files that are missing, cut or of no use are made anew.
	cert, err = issue(authority, hosts, s.opts.Now())
	if err == nil {
		err = save(certFile, keyFile, cert)
	}
	if err != nil {
		return nil, fmt.Errorf("the relay's own certificate: %w", err)
	}
	return &cert, nil
}

// does reports whether a certificate can be used on.
func (s *Server) does(leaf, authority *x509.Certificate, hosts []string) bool {
	if leaf.CheckSignatureFrom(authority) != nil || leaf.NotAfter.Sub(s.opts.Now()) < renewBefore || s.opts.Now().Before(leaf.NotBefore) {
		return false
	}
	return !slices.ContainsFunc(hosts, func(host string) bool { return leaf.VerifyHostname(host) != nil })
}

// hosts are all names of the relay.
func (s *Server) hosts() []string {
	hosts := append([]string{"localhost", "127.0.0.1", "::1"}, s.opts.Hosts...)
	// A machine without a name has one less; one with an odd name, too.
	if name, err := os.Hostname(); err == nil && validName(name) {
		hosts = append(hosts, name)
	}
	return hosts
}

// validName reports whether a certificate can carry the name.
func validName(name string) bool {
	probe := &x509.Certificate{DNSNames: []string{name}}
	return !strings.ContainsAny(name, ":/") && probe.VerifyHostname(name) == nil
}

package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The last year of an authority.
const (
	// announceBefore is how long before its end the next one is announced.
	announceBefore = 365 * 24 * time.Hour
	// switchBefore is how long before its end the next one takes over.
	switchBefore = 60 * 24 * time.Hour
	// announcedFor is how long that must have been announced by then, unless
	// the old one ends.
	announcedFor = 30 * 24 * time.Hour
)

func (s *Server) file(name string) string { return filepath.Join(s.opts.Dir, name) }

// authority is the authority that signs. One that cannot be read is not
// replaced: clients trust it.
func (s *Server) authority() (tls.Certificate, error) {
	if err := s.finishSwitch(); err != nil {
		return tls.Certificate{}, err
	}
	now, err := s.readOrMake(s.AuthorityFile(), s.file("ca.key"))
	if err != nil || now.Leaf.NotAfter.Sub(s.opts.Now()) >= announceBefore {
		return now, err
	}
	next, err := s.readOrMake(s.file("ca-next.crt"), s.file("ca-next.key"))
	if err != nil {
		return now, err
	}
	left, known := now.Leaf.NotAfter.Sub(s.opts.Now()), s.opts.Now().Sub(next.Leaf.NotBefore)
	if left > 0 && (left >= switchBefore || known < announcedFor) {
		return now, nil
	}
	if err := os.Rename(s.file("ca-next.key"), s.file("ca.key")); err != nil {
		return now, err
	}
	return next, s.finishSwitch()
}

// finishSwitch renames the next authority's certificate where its key has
// taken the place of the other one's, maybe before a crash.
func (s *Server) finishSwitch() error {
	_, err := tls.LoadX509KeyPair(s.file("ca-next.crt"), s.file("ca.key"))
	if err != nil {
		return nil // there is none, or it has a key of its own
	}
	return os.Rename(s.file("ca-next.crt"), s.AuthorityFile())
}

// readOrMake reads an authority, or makes it where neither of its files is
// there.
func (s *Server) readOrMake(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if !errors.Is(err, os.ErrNotExist) {
		return cert, err
	}
	if _, err := os.Stat(certFile); err == nil {
		return tls.Certificate{}, fmt.Errorf("%s is there and %s is not: restore it, or remove both and let all users and agents trust a new one", certFile, keyFile)
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return tls.Certificate{}, err
	}
	cert, err = newAuthority(s.opts.Now())
	if err != nil {
		return tls.Certificate{}, err
	}
	return cert, save(certFile, keyFile, cert)
}

// announced is what Authority returns.
func (s *Server) announced() (string, error) {
	if s.opts.CertFile != "" {
		return "", nil
	}
	now, err := os.ReadFile(s.AuthorityFile())
	if err != nil {
		return "", fmt.Errorf("the relay's own authority: %w", err)
	}
	next, err := os.ReadFile(s.file("ca-next.crt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the relay's next authority: %w", err)
	}
	return string(now) + string(next), nil
}

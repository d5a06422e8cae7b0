package certs

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"
)

// Run renews the certificate when it is time and when its files have changed,
// until ctx is done. changed is told of a new certificate, failed of what
// cannot be used: once, until the files change again.
func (s *Server) Run(ctx context.Context, changed func(notAfter time.Time), failed func(error)) {
	tick, renew := time.NewTicker(s.look), time.NewTicker(renewEvery)
	defer tick.Stop()
	defer renew.Stop()
	// What the files were when they were looked at last, and before they were
	// last read as a certificate.
	seen, read := s.print(), s.loaded
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
		case <-tick.C:
			now := s.print()
			settled := now == seen
			if seen = now; now == read || !settled {
				continue // files are replaced one by one
			}
		}
		// Whatever is written from here on, by Renew or by others, is looked at
		// once more.
		read = s.print()
		before := s.current.Load()
		if err := s.Renew(); err != nil {
			failed(err)
		} else if now := s.current.Load(); !now.Leaf.Equal(before.Leaf) {
			changed(now.Leaf.NotAfter)
		}
		seen = s.print()
	}
}

// print is a fingerprint of the files, wherever links lead by now. One that
// cannot be read counts as empty.
func (s *Server) print() [sha256.Size]byte {
	files := []string{s.opts.CertFile, s.opts.KeyFile}
	if s.opts.CertFile == "" {
		files = nil
		for _, name := range []string{"ca.crt", "ca.key", "ca-next.crt", "ca-next.key", "server.crt", "server.key"} {
			files = append(files, filepath.Join(s.opts.Dir, name))
		}
	}
	all := sha256.New()
	for _, file := range files {
		content, _ := os.ReadFile(file) // Renew says what is wrong
		sum := sha256.Sum256(content)
		all.Write(sum[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

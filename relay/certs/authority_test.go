package certs

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// believes reports whether who trusts the authorities believes the server.
func believes(s *Server, authorities string, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(authorities))
	_, err := s.current.Load().Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "localhost", CurrentTime: at})
	return err
}

// TestNextAuthority: for decades, who learns every half a year whom to trust
// gets through at every moment, also across the change to another authority.
func TestNextAuthority(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	opts := Options{Dir: dir, Now: func() time.Time { return now }}
	s := load(t, opts)
	first := s.Authority()
	learnt, learntAt := first, now
	most := 0
	for end := now.Add(3 * authorityLife); now.Before(end); now = now.Add(10 * 24 * time.Hour) {
		if now.YearDay()%2 == 0 {
			s = load(t, opts)
		} else if err := s.Renew(); err != nil {
			t.Fatal(err)
		}
		if err := believes(s, learnt, now); err != nil {
			t.Fatalf("at %v, who asked %v ago: %v", now, now.Sub(learntAt), err)
		}
		if now.Sub(learntAt) > 180*24*time.Hour {
			learnt, learntAt = s.Authority(), now
		}
		most = max(most, strings.Count(s.Authority(), "BEGIN"))
	}
	if believes(s, first, now) == nil || most != 2 {
		t.Errorf("the authority was never another one; %d were announced at most", most)
	}
}

// TestSwitchBreaksOff: a change that a crash broke off is finished; a relay
// that was away for years goes on with a new authority.
func TestSwitchBreaksOff(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	opts := Options{Dir: dir, Now: func() time.Time { return now }}
	load(t, opts)
	now = now.Add(authorityLife - announceBefore + time.Hour)
	announced := load(t, opts).Authority()
	if strings.Count(announced, "BEGIN") != 2 {
		t.Fatalf("announced %s", announced)
	}
	if err := os.Rename(filepath.Join(dir, "ca-next.key"), filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	s := load(t, opts)
	if err := believes(s, announced, now); err != nil || strings.Count(s.Authority(), "BEGIN") != 1 {
		t.Errorf("%v; announces %s", err, s.Authority())
	}
	now = now.Add(2 * authorityLife)
	s = load(t, opts)
	if err := believes(s, s.Authority(), now); err != nil {
		t.Error(err)
	}
}

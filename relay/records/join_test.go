package records

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// revoked collects the keys that a store takes back.
type revoked struct {
	mu   sync.Mutex
	keys []string
}

func (r *revoked) add(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append(r.keys, key)
}

func (r *revoked) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.keys
	r.keys = nil
	return keys
}

// TestJoinToken: a token lets one key in, once and in time; each refusal says
// which it is.
func TestJoinToken(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	cut := new(revoked)
	s, _ := open(t, js, Options{Revoked: cut.add})
	now := time.Now()
	s.opts.Now = func() time.Time { return now }
	refuse := func(e *protocol.Enrol, want error, words string) {
		t.Helper()
		if name, _, err := s.Enrol(t.Context(), e); name != "" || !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q, %v; want %v with %q", name, err, want, words)
		}
	}
	accept := func(e *protocol.Enrol) {
		t.Helper()
		if name, key, err := s.Enrol(t.Context(), e); name != "c" || key != "key" || err != nil {
			t.Errorf("%q, %q, %v", name, key, err)
		}
		if c, err := s.Cluster(t.Context(), "c"); err != nil || c.PublicKey != e.PublicKey || c.SealKey != e.SealKey || c.JoinTokenExpires != nil {
			t.Errorf("%+v, %v", c, err)
		}
		if name, ok := s.ClusterOf(e.PublicKey); name != "c" || !ok || s.SealKeyOf("c") != e.SealKey {
			t.Errorf("the key is of %q, %v", name, ok)
		}
	}
	stranger, err := protocol.NewJoinToken(protocol.RelayKey{1})
	if err != nil {
		t.Fatal(err)
	}
	refuse(newRequest(t, stranger), ErrTokenUnknown, "make a new one")

	older := newToken(t, s, "c", now.Add(time.Hour))
	token := newToken(t, s, "c", now.Add(time.Hour))
	if c, err := s.Cluster(t.Context(), "c"); err != nil || c.Connectivity != v1.NeverConnected || c.PublicKey != "" || c.JoinTokenExpires == nil {
		t.Errorf("%+v, %v", c, err)
	}
	if name, ok := s.ClusterOf(""); ok {
		t.Errorf("no key is the key of %q", name)
	}
	refuse(newRequest(t, older), ErrTokenUnknown, "a newer one took its place")
	first := newRequest(t, token)
	accept(first)
	accept(first) // its answer was lost
	refuse(newRequest(t, token), ErrTokenUsed, "cluster connect --name c")
	forged := *first
	forged.PublicKey = newRequest(t, token).PublicKey
	refuse(&forged, ErrInvalid, "proof")

	// The key stays until another one joins, which takes its place at once.
	next := newRequest(t, newToken(t, s, "c", now.Add(time.Hour)))
	if name, ok := s.ClusterOf(first.PublicKey); name != "c" || !ok || len(cut.take()) != 0 {
		t.Error("the key was revoked by a token that nobody used")
	}
	accept(next)
	if keys := cut.take(); !slices.Equal(keys, []string{first.PublicKey}) {
		t.Errorf("cut %q, want the old key", keys)
	}
	if _, ok := s.ClusterOf(first.PublicKey); ok {
		t.Error("the old key is still the cluster's")
	}

	// A key is of one cluster.
	stolen := newToken(t, s, "other", now.Add(time.Hour))
	e := protocol.NewEnrol(stolen, next.PublicKey, next.SealKey)
	refuse(e, ErrInvalid, "another cluster")

	late := newRequest(t, newToken(t, s, "c", now.Add(time.Hour)))
	now = now.Add(time.Hour + time.Minute)
	refuse(late, ErrTokenExpired, "cluster connect --name c")
	accept2, _, err := s.Enrol(t.Context(), e)
	if accept2 != "" || !errors.Is(err, ErrTokenExpired) {
		t.Errorf("%q, %v", accept2, err)
	}
	// What is left of a token that nobody used is swept.
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	refuse(late, ErrTokenExpired, "")
	now = now.Add(expiredKept)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	refuse(late, ErrTokenUnknown, "")
	if c, err := s.Cluster(t.Context(), "c"); err != nil || c.JoinTokenExpires != nil || c.PublicKey != next.PublicKey {
		t.Errorf("after the sweep: %+v, %v", c, err)
	}
}

// TestRetiredKey: a token that names a signing key that is there no more lets
// nobody in, since its agent would not believe the answer, and changes nothing.
func TestRetiredKey(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	retired := false
	s, _ := open(t, js, Options{Signs: func(id string) bool { return !retired && id == "key" }})
	old := joined(t, s, "c")
	token := newToken(t, s, "c", time.Now().Add(time.Hour))
	if got := s.Waiting(); len(got) != 1 || got["c"] != "key" {
		t.Errorf("waiting: %v", got)
	}
	retired = true
	name, _, err := s.Enrol(t.Context(), newRequest(t, token))
	if name != "" || !errors.Is(err, ErrTokenVoid) || !strings.Contains(err.Error(), "cluster connect --name c") {
		t.Errorf("%q, %v", name, err)
	}
	if c, err := s.Cluster(t.Context(), "c"); err != nil || c.PublicKey != old || c.JoinTokenExpires == nil {
		t.Errorf("%+v, %v", c, err)
	}
	retired = false
	request := newRequest(t, token)
	if _, _, err := s.Enrol(t.Context(), request); err != nil || len(s.Waiting()) != 0 {
		t.Errorf("%v, waiting: %v", err, s.Waiting())
	}
	newToken(t, s, "d", time.Now().Add(-time.Second))
	if got := s.Waiting(); len(got) != 0 {
		t.Errorf("an expired token: %v", got)
	}
}

// TestEnrolRaces: of many agents with one token, at two relays, one joins.
func TestEnrolRaces(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	a, _ := open(t, js, Options{})
	b, _ := open(t, js, Options{})
	token := newToken(t, a, "c", time.Now().Add(time.Hour))
	for { // the watch brings it to the other relay
		if _, ok := b.Joins(token.ID()); ok {
			break
		}
		time.Sleep(time.Millisecond)
	}
	var agents sync.WaitGroup
	var mu sync.Mutex
	joined, refused := 0, 0
	for i := range 16 {
		e := newRequest(t, token)
		agents.Go(func() {
			_, _, err := []*Store{a, b}[i%2].Enrol(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				joined++
			case errors.Is(err, ErrTokenUsed):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	agents.Wait()
	if joined != 1 || refused != 15 {
		t.Errorf("%d joined, %d were refused", joined, refused)
	}
}

package records

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
)

func createToken(t *testing.T, s *Store, name string, role v1.Role) v1.Token {
	t.Helper()
	token, err := s.CreateToken(t.Context(), v1.TokenSettings{Name: name, Role: role}, "digest-of-"+name, "admin")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	js, stopServer := serve(t, dir, true)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return now }
	s, stop := open(t, js, Options{Now: clock})
	ci := createToken(t, s, "ci", v1.Contributor)
	createToken(t, s, "gone", v1.Reader)
	if want := now.Add(90 * 24 * time.Hour); !ci.Expires.Equal(want) || ci.Status != v1.TokenValid || ci.CreationContext.CreatedBy != "admin" {
		t.Errorf("%+v, want it to expire at %v", ci, want)
	}
	if got, ok := s.TokenOf("digest-of-ci"); !ok || !cmp.Equal(got, ci) {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, wrong := range []string{"", "digest-of-c", "digest-of-ci2"} {
		if got, ok := s.TokenOf(wrong); ok {
			t.Errorf("%q is that of %+v", wrong, got)
		}
	}
	if err := s.RevokeToken(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(t.Context(), "gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}

	stop()
	stopServer()
	js, _ = serve(t, dir, true)
	s, _ = open(t, js, Options{Now: clock})
	if all, err := s.Tokens(t.Context()); err != nil || len(all) != 1 || !cmp.Equal(all[0], ci) {
		t.Errorf("after a restart: %+v, %v", all, err)
	}
	if _, ok := s.TokenOf("digest-of-gone"); ok {
		t.Error("a restart brought a revoked token back")
	}
	now = ci.Expires.Add(-time.Second)
	if got, _ := s.TokenOf("digest-of-ci"); got.Status != v1.TokenValid {
		t.Errorf("a second before its end it is %s", got.Status)
	}
	now = ci.Expires
	if got, _ := s.TokenOf("digest-of-ci"); got.Status != v1.TokenExpired {
		t.Errorf("at its end it is %s", got.Status)
	}
}

func TestTokenSettings(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	for want, settings := range map[string]v1.TokenSettings{
		"name: ":                      {Name: "A b", Role: v1.Reader},
		"first start":                 {Name: "admin", Role: v1.Admin},
		`role: "root"`:                {Name: "x", Role: "root"},
		"role: \"\"":                  {Name: "x"},
		"(an hour)":                   {Name: "x", Role: v1.Reader, ExpiresIn: 3599},
		"-1 seconds":                  {Name: "x", Role: v1.Reader, ExpiresIn: -1},
		"(3650 days)":                 {Name: "x", Role: v1.Reader, ExpiresIn: 3650*24*3600 + 1},
		"9223372036854775807 seconds": {Name: "x", Role: v1.Reader, ExpiresIn: 1<<63 - 1},
	} {
		if _, err := s.CreateToken(t.Context(), settings, "d", "admin"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", settings, err, want)
		}
	}
	// Of many at once one gets the name.
	var made sync.Map
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := s.CreateToken(t.Context(), v1.TokenSettings{Name: "ci", Role: v1.Reader}, fmt.Sprint("digest-", i), "admin")
			if err == nil {
				made.Store(i, true)
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	winners := 0
	made.Range(func(i, _ any) bool {
		winners++
		if _, ok := s.TokenOf(fmt.Sprint("digest-", i)); !ok {
			t.Error("a token that was made is not known")
		}
		return true
	})
	if winners != 1 {
		t.Errorf("%d tokens have one name", winners)
	}
	for i := range maxTokens - 1 {
		createToken(t, s, fmt.Sprint("token-", i), v1.Reader)
	}
	if _, err := s.CreateToken(t.Context(), v1.TokenSettings{Name: "more", Role: v1.Reader}, "d", "admin"); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
}

// meddled is the setup's bucket, of which another relay deletes first.
type meddled struct {
	jetstream.KeyValue
	before func()
}

func (m *meddled) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	if m.before != nil {
		m.before()
		m.before = nil
	}
	return m.KeyValue.Purge(ctx, key, opts...)
}

// TestRevokedElsewhere: a token that another relay has just revoked is void, and
// so is one of its name that was made since.
func TestRevokedElsewhere(t *testing.T) {
	for name, again := range map[string]bool{"revoked": false, "made again": true} {
		t.Run(name, func(t *testing.T) {
			js, _ := serve(t, t.TempDir(), false)
			s, _ := open(t, js, Options{})
			createToken(t, s, "ci", v1.Reader)
			plan := s.plan
			s.plan = &meddled{plan, func() {
				if err := plan.Purge(t.Context(), tokenPrefix+"ci"); err != nil {
					t.Error(err)
				}
				if again {
					if _, err := plan.Create(t.Context(), tokenPrefix+"ci", []byte(`{"digest":"digest-of-the-next"}`)); err != nil {
						t.Error(err)
					}
				}
			}}
			if err := s.RevokeToken(t.Context(), "ci"); err != nil {
				t.Error(err)
			}
			for _, digest := range []string{"digest-of-ci", "digest-of-the-next"} {
				if found, ok := s.TokenOf(digest); ok {
					t.Errorf("%s is that of %+v", digest, found)
				}
			}
			if _, err := plan.Get(t.Context(), tokenPrefix+"ci"); !errors.Is(err, jetstream.ErrKeyNotFound) {
				t.Errorf("it is kept: %v", err)
			}
			if err := s.RevokeToken(t.Context(), "ci"); !errors.Is(err, ErrNotFound) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

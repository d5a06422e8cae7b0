package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/protocol"
)

// one is the setup of a relay with one cluster, "c".
type one struct {
	Setup
	key string
}

func (s one) ClusterOf(key string) (string, bool)                            { return "c", key == s.key }
func (s one) Joins(string) (string, bool)                                    { return "c", true }
func (s one) Enrol(context.Context, *protocol.Enrol) (string, string, error) { return "c", "key", nil }

// TestWhoIsAFriend: an agent that signs a request with its cluster's key, or
// joins, makes its address a friend's; one that tries to does not.
func TestWhoIsAFriend(t *testing.T) {
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	a := &API{refusals: newRefusals(), changes: newUsers(changesEach, time.Now), friends: newFriends(time.Now), opts: Options{
		Audit: new(page), Log: zerolog.Nop(), Setup: one{key: public}, Named: func(string) bool { return true },
		Enrolment: func(context.Context, *protocol.Enrol, string, string) ([]byte, error) { return nil, nil },
	}}
	asks := func(key nkeys.KeyPair, from string) {
		token, err := agentauth.Sign(key, "relay.example", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/agent/whoami", nil)
		r.RemoteAddr = from
		r.Header.Set("Authorization", "Bearer "+token)
		a.trace(a.forAgents(http.NotFoundHandler())).ServeHTTP(httptest.NewRecorder(), r)
	}
	asks(key, "192.0.2.1:1")
	asks(stranger, "192.0.2.2:1")

	signing, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := protocol.NewJoinToken(signing.Public())
	if err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	sealKey, err := seal.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	request := protocol.NewEnrol(token, public, sealKey)
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), trailKey{}, &trail{remote: "192.0.2.3:1"})
	if _, err := a.enrol(ctx, &enrolInput{RawBody: body}); err != nil {
		t.Fatal(err)
	}
	for remote, want := range map[string]bool{"192.0.2.1:2": true, "192.0.2.2:1": false, "192.0.2.3:2": true} {
		if got := a.friends.has(remote); got != want {
			t.Errorf("%s is a friend's: %v, want %v", remote, got, want)
		}
	}
}

package broker

import (
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
)

// TestOwnKeysFromOutside: the relay's own keys open the embedded server in
// process only, and whoever has one of them gets nowhere by the WebSocket.
func TestOwnKeysFromOutside(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	address := strings.Replace(b.WebsocketURL(), "http", "ws", 1)
	var tries sync.WaitGroup // the server takes its time to refuse
	for name, key := range map[string]nkeys.KeyPair{"relay": b.keys.relay, "system": b.keys.system, "issuer": b.keys.issuer} {
		tries.Go(func() {
			conn, err := nats.Connect(address, nats.Nkey(public(key), key.Sign), nats.NoReconnect(), nats.Timeout(10*time.Second))
			if err == nil {
				conn.Close()
				t.Errorf("the key of %s opens the WebSocket", name)
			}
		})
	}
	tries.Wait()
	if _, err := nats.Connect("", nats.InProcessServer(b.server), nats.Nkey(public(kp), kp.Sign), nats.NoReconnect()); err == nil {
		t.Error("an agent's key opens the server in process")
	}
}

// TestExpiryOfAUser: not all connections end at the same time, and none lives
// longer than it may.
func TestExpiryOfAUser(t *testing.T) {
	c, kp := testCallout(t)
	ends := map[int64]bool{}
	for i := range 50 {
		rq := request(t, kp, "nonce")
		rq.ClientInformation.ID = uint64(i)
		text, err := c.admit(rq)
		if err != nil {
			t.Fatal(err)
		}
		user, err := jwt.DecodeUserClaims(text)
		if err != nil {
			t.Fatal(err)
		}
		life := time.Until(time.Unix(user.Expires, 0))
		if life > time.Hour || life < 47*time.Minute {
			t.Fatalf("a user that lives for %v", life)
		}
		ends[user.Expires] = true
	}
	if len(ends) < 10 {
		t.Errorf("50 users end at %d times", len(ends))
	}
}

func testCallout(t testing.TB) (*callout, nkeys.KeyPair) {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	c := &callout{
		keys: keys, life: time.Hour, most: 1 << 30, log: zerolog.Nop(),
		connections: newConnections(), quota: newQuota(1, 1), welcome: func(string) {},
	}
	c.open(func(key string) (string, bool) { return "c", key == public(kp) })
	return c, kp
}

// request is what a server asks about a client that signed the nonce.
func request(t testing.TB, kp nkeys.KeyPair, nonce string) *jwt.AuthorizationRequestClaims {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	rq := jwt.NewAuthorizationRequestClaims(public(user))
	rq.UserNkey = public(user)
	rq.Server.ID = "server"
	rq.ClientInformation.Kind, rq.ClientInformation.Nonce = "Client", nonce
	rq.ConnectOptions.Nkey = public(kp)
	signature, err := kp.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	rq.ConnectOptions.SignedNonce = base64.RawURLEncoding.EncodeToString(signature)
	return rq
}

// FuzzAdmit: whatever a stranger says of itself, it is not let in without the
// key's signature of the server's nonce.
func FuzzAdmit(f *testing.F) {
	c, kp := testCallout(f)
	genuine := request(f, kp, "a nonce")
	f.Add(genuine.ConnectOptions.Nkey, genuine.ConnectOptions.SignedNonce, "Client")
	f.Add(genuine.ConnectOptions.Nkey, "", "Client")
	f.Add(public(c.keys.relay), "AAAA", "Client")
	f.Add("", "", "Leafnode")
	f.Add("UA", strings.Repeat("A", 86), "Client")
	f.Fuzz(func(t *testing.T, key, signature, kind string) {
		rq := *genuine
		rq.ClientInformation.Nonce = "the nonce of this connection"
		rq.ClientInformation.Kind = kind
		rq.ConnectOptions.Nkey, rq.ConnectOptions.SignedNonce = key, signature
		if _, err := c.admit(&rq); err == nil {
			t.Errorf("let in with key %q and signature %q", key, signature)
		}
	})
}

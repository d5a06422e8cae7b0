package relay

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/agentauth"
)

// TestWhoami: an agent is told whose its key is, and one with a strange key
// that it is nobody's.
func TestWhoami(t *testing.T) {
	s := serve(t, t.TempDir())
	kp := s.setUp(t, "c")
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[int]nkeys.KeyPair{http.StatusOK: kp, http.StatusUnauthorized: stranger} {
		token, err := agentauth.Sign(key, "127.0.0.1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		status, body := s.request(t, http.MethodGet, "/v1/agent/whoami", token, nil)
		if status != want || (status == http.StatusOK && string(body) != `{"cluster":"c"}`+"\n") {
			t.Errorf("%d %q, want %d", status, body, want)
		}
	}
}

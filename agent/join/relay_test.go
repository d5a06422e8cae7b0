package join

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// relay speaks the enrol protocol over TLS and keeps what a relay keeps of a
// token: its ID, and the key that used it.
type relay struct {
	t         *testing.T
	key       *protocol.SigningKey
	authority *testkit.Authority
	server    *httptest.Server
	url       *url.URL
	ca        string // that it tells agents of

	mu      sync.Mutex
	tokens  map[string]string // ID → public key of who used it; "expired"
	keys    map[string]bool   // of clusters
	asked   int
	instead func(http.ResponseWriter) bool // answers in place of the relay
	after   func(*protocol.Enrol)          // called once the relay has taken a key, before it answers
}

func newRelay(t *testing.T) *relay {
	key, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, key: key, authority: testkit.NewAuthority(t), tokens: make(map[string]string), keys: make(map[string]bool)}
	r.server = httptest.NewUnstartedServer(r)
	r.server.TLS = r.authority.Server("127.0.0.1", "relay.example")
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	if r.url, err = url.Parse(r.server.URL); err != nil {
		t.Fatal(err)
	}
	return r
}

// token makes a token, as `trainrelay cluster connect` does.
func (r *relay) token() protocol.JoinToken {
	token, err := protocol.NewJoinToken(r.key.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[token.ID()] = ""
	return token
}

func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.instead != nil && r.instead(w) {
		return
	}
	var e protocol.Enrol
	if err := json.NewDecoder(io.LimitReader(req.Body, 4<<10)).Decode(&e); err != nil || req.URL.Path != "/v1/agent/enrol" {
		problem(w, http.StatusUnprocessableEntity, "not a request to join")
		return
	}
	if err := e.Validate(); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	user, known := r.tokens[e.Token]
	switch {
	case !known:
		problem(w, http.StatusUnauthorized, "this join token is unknown here")
		return
	case user == "expired":
		problem(w, http.StatusGone, "this join token has expired: run `trainrelay cluster connect` again")
		return
	case user != "" && user != e.PublicKey:
		problem(w, http.StatusGone, "this join token was used by another key")
		return
	}
	r.tokens[e.Token] = e.PublicKey
	r.keys[e.PublicKey] = true
	if r.after != nil {
		r.after(&e)
	}
	answer, err := protocol.EncodeSigned(&protocol.Enrolment{
		Nonce: e.Nonce, Cluster: "onprem-1", Trust: protocol.Trust{Keys: []protocol.RelayKey{r.key.Public()}, CA: r.ca},
	}, r.key)
	if err != nil {
		r.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "detail": detail})
}

func (r *relay) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// has fails the test unless the relay knows exactly these keys.
func (r *relay) has(n int, c Credentials) {
	r.t.Helper()
	public, err := publicKey(c.Seed)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) != n || !r.keys[public] {
		r.t.Errorf("the relay knows %d keys, want %d, this cluster's among them: %v", len(r.keys), n, r.keys[public])
	}
}

// pod is one pod of the agent: its own process, its own mount of the token.
type pod struct {
	*Join
	file string
	log  *bytes.Buffer
}

func newPod(t *testing.T, r *relay, a *api, change ...func(*Options)) pod {
	t.Helper()
	p := pod{file: filepath.Join(t.TempDir(), "token"), log: new(bytes.Buffer)}
	o := Options{
		Relay: r.url, Dial: dial.Options{RootCAs: r.authority.PEM}, Secrets: a.secrets(), Secret: secretName,
		TokenFile: p.file, Log: zerolog.New(zerolog.SyncWriter(p.log)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if p.Join, err = New(o); err != nil {
		t.Fatal(err)
	}
	p.others = 50 * time.Millisecond
	return p
}

// mount puts a token where the pod reads it.
func (p pod) mount(t *testing.T, token protocol.JoinToken) pod {
	t.Helper()
	if err := os.WriteFile(p.file, []byte(token.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// joined looks once and fails the test without credentials.
func (p pod) joined(t *testing.T) Credentials {
	t.Helper()
	have, err := p.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("joined and not ready: %v", err)
	}
	return have
}

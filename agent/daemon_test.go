package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/gateway"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/protocol"
)

// secretAPI is an API server, at the wire, that has the agent's Secret and
// refuses the rest.
type secretAPI struct {
	mu     sync.Mutex
	secret corev1.Secret
	ca     string // what the relay said is its authority
}

func (a *secretAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !strings.HasSuffix(r.URL.Path, "/secrets/trainrelay-agent") || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403})
		return
	}
	_ = json.NewEncoder(w).Encode(&a.secret)
}

// hold puts credentials with a new key into the Secret, and returns the key.
func (a *secretAPI) hold(t *testing.T, gatewaySeed []byte) (public string) {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	sealSeed, _ := seal.Seed()
	public, _ = user.PublicKey()
	signing, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{
		"cluster": "onprem", "nkey_seed": string(seed), "seal_seeds": []string{string(sealSeed)}, "gateway_seed": gatewaySeed,
		"trust": protocol.Trust{Keys: []protocol.RelayKey{signing.Public()}, CA: a.ca}, "joined_with": "a token's ID",
	})
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secret.Data = map[string][]byte{"credentials.json": data}
	return public
}

// codeRelay gives code to the cluster with the key, and 401 to others.
type codeRelay struct {
	mu  sync.Mutex
	key string
}

func (r *codeRelay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	key := r.key
	r.mu.Unlock()
	verifier := agentauth.Verifier{
		Audience: func(string) bool { return true },
		Cluster:  func(public string) (string, bool) { return "onprem", public == key },
		Now:      time.Now(),
	}
	if _, err := verifier.Verify(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, "the code")
}

// site is a daemon between an API server and a relay.
type site struct {
	t               *testing.T
	api             *secretAPI
	relay           *codeRelay
	health, gateway string // addresses
	token           string // file
}

func newSite(t *testing.T, prepare func(*site)) *site {
	t.Helper()
	s := &site{t: t, api: new(secretAPI), relay: new(codeRelay), health: freeAddr(t), gateway: freeAddr(t), token: filepath.Join(t.TempDir(), "token")}
	prepare(s)
	api, relay := httptest.NewServer(s.api), httptest.NewServer(s.relay)
	at, err := url.Parse(relay.URL)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDaemon(DaemonOptions{
		Agent: Options{
			Relay: at, Kube: &rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}},
			Namespaces: []string{"train"}, NodeName: "n", PodName: "p", PodNamespace: "azureml", GatewayListen: s.gateway,
			Workload: workload.Options{LaunchImage: "i", GatewayURL: "g"}, PolicyFile: "policy.yaml", Log: zerolog.Nop(),
		},
		Secret: "trainrelay-agent", JoinTokenFile: s.token, HealthListen: s.health, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		relay.Close()
		api.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// get asks and returns the status, 0 where nobody listens, and the answer.
func (s *site) get(url, token string) (int, string) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// TestDaemonWaits: a pod that cannot join lives, and says what it waits for.
func TestDaemonWaits(t *testing.T) {
	s := newSite(t, func(*site) {})
	until(t, "health is served", func() bool { status, _ := s.get(s.health+"/healthz", ""); return status == http.StatusOK })
	until(t, "it says what is missing", func() bool {
		status, report := s.get(s.health+"/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(report, "not joined: ") && strings.Contains(report, "trainrelay cluster connect")
	})
	if err := os.WriteFile(s.token, []byte("not one"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it says what is wrong", func() bool {
		_, report := s.get(s.health+"/readyz", "")
		return strings.Contains(report, "not a join token")
	})
	if status, metrics := s.get(s.health+"/metrics", ""); status != http.StatusOK {
		t.Errorf("metrics: %d %s", status, metrics)
	}
}

// TestDaemonStartsOver: an agent whose key the relay refuses goes on with the
// key of a later join, in the same process, and a pod that was started before
// gets its code.
func TestDaemonStartsOver(t *testing.T) {
	secret := []byte(strings.Repeat("g", 32))
	s := newSite(t, func(s *site) { s.relay.key = s.api.hold(t, secret) })
	tokens, err := gateway.NewTokens(secret)
	if err != nil {
		t.Fatal(err)
	}
	token := tokens.Token(protocol.Ref{Job: "iris", Attempt: 1})
	code := func() (int, string) { return s.get(s.gateway+"/v1/attempts/iris/1/code", token) }
	until(t, "code is served", func() bool { status, body := code(); return status == http.StatusOK && body == "the code" })

	key := s.api.hold(t, secret)
	s.relay.mu.Lock()
	s.relay.key = key
	s.relay.mu.Unlock()
	if status, body := code(); status != http.StatusBadGateway || !strings.Contains(body, "refuses the agent") {
		t.Errorf("with a key that was replaced: %d %s", status, body)
	}
	until(t, "code is served with the new key", func() bool { status, _ := code(); return status == http.StatusOK })
	if status, metrics := s.get(s.health+"/metrics", ""); status != http.StatusOK || !strings.Contains(metrics, "trainrelay_agent_gateway_fetches_total") {
		t.Errorf("metrics: %d %s", status, metrics)
	}
}

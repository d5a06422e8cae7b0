package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// account is the file by which the relay's first admin reaches it.
type account struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	CA    string `json:"ca"`
}

// RelayFiles are where the relay keeps all that it keeps: its data and its log.
func (l *Lab) RelayFiles() []string { return []string{l.path("relay"), l.path("log", "relay.log")} }

func (l *Lab) account() (account, error) {
	var a account
	text, err := os.ReadFile(l.ClientConfig())
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// get reads a path of the relay as its admin, through no proxy.
func (l *Lab) get(ctx context.Context, path string) ([]byte, error) {
	a, err := l.account()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.RelayAddr+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+a.Token)
	transport := &http.Transport{TLSClientConfig: a.tls()}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	return body, err
}

func (a account) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(a.CA))
	return &tls.Config{RootCAs: pool}
}

func (l *Lab) relayReady(ctx context.Context) error {
	if p := l.host.Process("relay"); !p.Alive() {
		log, _ := os.ReadFile(l.path("log", "relay.log"))
		return fmt.Errorf("it has ended:\n%s", log)
	}
	_, err := l.get(ctx, "/readyz")
	return err
}

// Metric is the sum of one of the relay's metrics over its labels; 0 when it
// has none yet.
func (l *Lab) Metric(t testing.TB, name string) float64 {
	t.Helper()
	text, err := l.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if base, _, _ := strings.Cut(series, "{"); !ok || base != name {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += number
	}
	return sum
}

// AgentRequest sends a request to the relay as the agent would, with its key,
// and returns the answer.
func (l *Lab) AgentRequest(t testing.TB, verb string, data []byte) []byte {
	t.Helper()
	conn, err := l.AgentConn(l.AgentKey(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply, err := conn.Request(protocol.UpSubject(clusterName, verb), data, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Data
}

// AgentKey is the agent's, as whoever stole its Secret would have it.
func (l *Lab) AgentKey(t testing.TB) nkeys.KeyPair {
	t.Helper()
	secret, err := l.Client.CoreV1().Secrets(agentSpace).Get(t.Context(), "trainrelay-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var credentials struct {
		Seed string `json:"nkey_seed"`
	}
	if err := json.Unmarshal(secret.Data["credentials.json"], &credentials); err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromSeed([]byte(credentials.Seed))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// AgentConn connects to the relay as an agent with the key, past the proxy.
func (l *Lab) AgentConn(key nkeys.KeyPair, more ...nats.Option) (*nats.Conn, error) {
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	a, err := l.account()
	if err != nil {
		return nil, err
	}
	return nats.Connect("wss://"+l.RelayAddr, append([]nats.Option{nats.ProxyPath("/nats"), nats.Secure(a.tls()),
		nats.Nkey(public, key.Sign), nats.CustomInboxPrefix(protocol.InboxPrefix(clusterName)), nats.NoReconnect()}, more...)...)
}

package join

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// interceptor is a proxy that ends TLS with a certificate of its own, which the
// site's machines trust, and so reads and changes what passes.
type interceptor struct {
	*testkit.Proxy
	authority *testkit.Authority
	relay     *relay

	mu       sync.Mutex
	seen     bytes.Buffer                                // all that passed
	requests [][]byte                                    // bodies, as they came
	request  func(body []byte) []byte                    // changes what the relay gets
	answer   func(request []byte, answer *http.Response) // changes what the agent gets
}

func intercept(t *testing.T, r *relay) *interceptor {
	i := &interceptor{authority: testkit.NewAuthority(t), relay: r}
	server := httptest.NewUnstartedServer(i)
	server.TLS = i.authority.Server("relay.example")
	server.StartTLS()
	t.Cleanup(server.Close)
	i.Proxy = testkit.StartProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"relay.example:443": server.Listener.Addr().String()}})
	return i
}

func (i *interceptor) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, _ := io.ReadAll(in.Body)
	i.mu.Lock()
	_ = in.Write(&i.seen)
	i.seen.Write(body)
	i.requests = append(i.requests, body)
	change, answer := i.request, i.answer
	i.mu.Unlock()
	sent := body
	if change != nil {
		sent = change(body)
	}
	resp, err := i.forward(in.URL.Path, sent)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if answer != nil {
		answer(body, resp)
	}
	data, _ := io.ReadAll(resp.Body)
	i.mu.Lock()
	i.seen.Write(data)
	i.mu.Unlock()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(data)
}

func (i *interceptor) forward(path string, body []byte) (*http.Response, error) {
	return i.relay.server.Client().Post(i.relay.server.URL+path, "application/json", bytes.NewReader(body))
}

func (i *interceptor) pod(t *testing.T, a *api) pod {
	t.Helper()
	return newPod(t, i.relay, a, func(o *Options) {
		o.Relay = &url.URL{Scheme: "https", Host: "relay.example"}
		o.Dial.RootCAs, o.Dial.HTTPSProxy = i.authority.PEM, "http://"+i.Addr
	})
}

// TestInterceptedJoin: a proxy that looks into TLS sees nothing that it could
// join or connect with, neither at once nor later.
func TestInterceptedJoin(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	i := intercept(t, r)
	token := r.token()
	have := i.pod(t, a).mount(t, token).joined(t)
	r.has(1, have)
	if len(i.requests) != 1 {
		t.Fatalf("%d requests passed", len(i.requests))
	}
	for what, secret := range map[string]string{
		"join token": token.Text(), "key's seed": have.Seed, "seal key's seed": have.SealSeeds[0],
	} {
		if strings.Contains(i.seen.String(), strings.TrimPrefix(secret, "trj_")) {
			t.Errorf("the proxy saw the %s", what)
		}
	}
	// What it saw, said again, changes nothing.
	resp, err := i.forward("/v1/agent/enrol", i.requests[0])
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r.has(1, have)
}

// TestInterceptorCannotSteal: a proxy that changes what passes can keep the
// cluster from joining, and no more.
func TestInterceptorCannotSteal(t *testing.T) {
	own, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := newPending(protocol.JoinToken{})
	if err != nil {
		t.Fatal(err)
	}
	public, err := publicKey(mine.Seed)
	if err != nil {
		t.Fatal(err)
	}
	field := func(body []byte, name string) string {
		_, rest, _ := strings.Cut(string(body), `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	replace := func(resp *http.Response, data []byte) {
		resp.StatusCode, resp.Body = http.StatusOK, io.NopCloser(bytes.NewReader(data))
	}
	signed := func(nonce string, keys ...protocol.RelayKey) []byte {
		data, err := protocol.EncodeSigned(&protocol.Enrolment{Nonce: nonce, Cluster: "theirs", Trust: protocol.Trust{Keys: keys}}, own)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, tc := range map[string]struct {
		request func([]byte) []byte
		answer  func([]byte, *http.Response)
		breach  protocol.BreachKind // empty: the relay refuses
	}{
		"its own key in the request": {request: func(body []byte) []byte {
			return []byte(strings.Replace(string(body), field(body, "public_key"), public, 1))
		}},
		"its own relay in the answer": {answer: func(request []byte, resp *http.Response) {
			replace(resp, signed(field(request, "nonce"), own.Public()))
		}, breach: protocol.UnknownKey},
		"its own key beside the relay's": {answer: func(request []byte, resp *http.Response) {
			replace(resp, signed(field(request, "nonce"), own.Public(), r0(resp)))
		}, breach: protocol.UnknownKey},
		"another cluster's name": {answer: func(_ []byte, resp *http.Response) {
			data, _ := io.ReadAll(resp.Body)
			replace(resp, []byte(strings.Replace(string(data), "onprem-1", "onprem-2", 1)))
		}, breach: protocol.Forged},
	} {
		t.Run(name, func(t *testing.T) {
			r, a := newRelay(t), newAPI(t)
			i := intercept(t, r)
			i.request, i.answer = tc.request, tc.answer
			token := r.token()
			p := i.pod(t, a).mount(t, token)
			_, err := p.Look(t.Context())
			breach := new(protocol.Breach)
			refusal := new(Refusal)
			switch {
			case tc.breach == "" && !errors.As(err, &refusal):
				t.Errorf("%v is no refusal", err)
			case tc.breach != "" && (!errors.As(err, &breach) || breach.Kind != tc.breach):
				t.Errorf("%v is not of kind %s", err, tc.breach)
			}
			if a.data(credentialsKey) != "" {
				t.Error("credentials were written")
			}
			// Out of its hands the token is as good as before.
			r.has(1, newPod(t, r, a).mount(t, token).joined(t))
		})
	}
}

// r0 is the relay's key, as its answer has it.
func r0(resp *http.Response) protocol.RelayKey {
	data, _ := io.ReadAll(resp.Body)
	_, rest, _ := strings.Cut(string(data), `"keys":["`)
	text, _, _ := strings.Cut(rest, `"`)
	var key protocol.RelayKey
	_ = key.UnmarshalText([]byte(text))
	return key
}

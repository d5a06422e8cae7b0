package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
)

const seed = "a seed of an agent, that is long enough"

var iris = protocol.Ref{Job: "iris", Attempt: 2}

func newTokens(t testing.TB, seed string) *Tokens {
	t.Helper()
	tokens, err := NewTokens([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// serve runs a gateway before the relay, and returns its URL.
func serve(t *testing.T, relay http.Handler, change func(*Options)) string {
	t.Helper()
	up := httptest.NewServer(relay)
	t.Cleanup(up.Close)
	target, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := Options{
		Relay: target, Transport: transport, Tokens: newTokens(t, seed), Log: zerolog.Nop(),
		Authorize: func(r *http.Request) error { r.Header.Set("Authorization", "Bearer the agent's"); return nil },
	}
	if change != nil {
		change(&o)
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}

// get fetches code as a pod does. The error is that of the body.
func get(t *testing.T, gateway, path, token string) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

func TestWhoMay(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	relay := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v1/agent/jobs/iris/attempts/2/code" || req.Header.Get("Authorization") != "Bearer the agent's" {
			http.Error(w, "wrong request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("the code"))
	})
	t.Run("cases", func(t *testing.T) {
		gateway := serve(t, relay, nil)
		mine := newTokens(t, seed)
		for _, tt := range []struct {
			name, path, token string
			status            int
		}{
			{"own", "/v1/attempts/iris/2/code", mine.Token(iris), 200},
			{"none", "/v1/attempts/iris/2/code", "", 401},
			{"another attempt's", "/v1/attempts/iris/2/code", mine.Token(protocol.Ref{Job: "iris", Attempt: 1}), 403},
			{"another job's", "/v1/attempts/iris/2/code", mine.Token(protocol.Ref{Job: "other", Attempt: 2}), 403},
			{"another cluster's", "/v1/attempts/iris/2/code", newTokens(t, seed+"2").Token(iris), 403},
			{"garbage", "/v1/attempts/iris/2/code", "%%%", 403},
			{"no attempt", "/v1/attempts/iris/0/code", mine.Token(iris), 404},
			{"no number", "/v1/attempts/iris/x/code", mine.Token(iris), 404},
			{"no name", "/v1/attempts/..%2Fadmin/2/code", mine.Token(iris), 404},
			{"elsewhere", "/v1/attempts/iris/2/secret", mine.Token(iris), 404},
		} {
			status, body, err := get(t, gateway, tt.path, tt.token)
			if status != tt.status || err != nil || (status == 200) != (body == "the code") {
				t.Errorf("%s: %d %q, %v; want %d", tt.name, status, body, err, tt.status)
			}
			if tt.token != "" && strings.Contains(body, tt.token) {
				t.Errorf("%s: the answer repeats the token: %q", tt.name, body)
			}
		}
	})
}

func TestTokensDiffer(t *testing.T) {
	tokens := newTokens(t, seed)
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,20}`)
	rapid.Check(t, func(rt *rapid.T) {
		a := protocol.Ref{Job: name.Draw(rt, "a"), Attempt: rapid.IntRange(1, 10).Draw(rt, "attempt a")}
		b := protocol.Ref{Job: name.Draw(rt, "b"), Attempt: rapid.IntRange(1, 10).Draw(rt, "attempt b")}
		if tokens.check(a, tokens.Token(b)) != (a == b) {
			rt.Fatalf("the token of %s, for %s", b, a)
		}
	})
	if _, err := NewTokens([]byte("short")); err == nil {
		t.Error("a key was derived from next to nothing")
	}
}

func TestWhatTheRelaySays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		relay  int
		body   string
		status int
		text   string
	}{
		{"no code", 404, `{"detail":"job iris has no code"}`, 404, "job iris has no code"},
		{"credential", 401, `{"detail":"key unknown"}`, 502, "refuses the agent: key unknown"},
		{"forbidden", 403, `{"detail":"another cluster's"}`, 502, "refuses the agent: another"},
		{"broken", 500, "<html>", 502, "500 Internal Server Error"},
		{"busy", 429, "", 503, "patience"},
		{"redirect", 302, "", 502, "302 Found"},
		{"hostile", 404, `{"detail":"a\n\u0000b ` + strings.Repeat("x", 1<<20) + `"}`, 404, "404 Not Found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gateway := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.relay)
				_, _ = io.WriteString(w, tt.body)
			}), nil)
			status, body, err := get(t, gateway, "/v1/attempts/iris/2/code", newTokens(t, seed).Token(iris))
			if status != tt.status || err != nil || !strings.Contains(body, tt.text) {
				t.Errorf("%d %q, %v; want %d with %q", status, body, err, tt.status, tt.text)
			}
		})
	}
}

func TestRelayAway(t *testing.T) {
	token := newTokens(t, seed).Token(iris)
	down := func(o *Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("the proxy refused the tunnel")
		})
	}
	status, body, _ := get(t, serve(t, http.NotFoundHandler(), down), "/v1/attempts/iris/2/code", token)
	if status != 502 || !strings.Contains(body, "the proxy refused the tunnel") {
		t.Errorf("%d %q", status, body)
	}
	unproven := func(o *Options) { o.Authorize = func(*http.Request) error { return errors.New("no seed") } }
	status, body, _ = get(t, serve(t, http.NotFoundHandler(), unproven), "/v1/attempts/iris/2/code", token)
	if status != 500 || !strings.Contains(body, "no seed") {
		t.Errorf("%d %q", status, body)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestBrokenBodyIsSeen(t *testing.T) {
	gateway := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), nil)
	status, body, err := get(t, gateway, "/v1/attempts/iris/2/code", newTokens(t, seed).Token(iris))
	if status != 200 || err == nil {
		t.Errorf("%d, %d bytes, %v: a broken body looks whole", status, len(body), err)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	gateway := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}), func(o *Options) { o.Fetches = 1 })
	token := newTokens(t, seed).Token(iris)
	first := make(chan int)
	go func() {
		status, _, _ := get(t, gateway, "/v1/attempts/iris/2/code", token)
		first <- status
	}()
	<-entered
	if status, _, _ := get(t, gateway, "/v1/attempts/iris/2/code", token); status != 503 {
		t.Errorf("a fetch over the limit got %d", status)
	}
	close(release)
	if status := <-first; status != 200 {
		t.Errorf("the fetch within the limit got %d", status)
	}
}

func TestBoundedMemory(t *testing.T) {
	const size = 200 << 20
	block := make([]byte, 1<<20)
	var peak uint64
	gateway := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(block) {
			_, _ = w.Write(block)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}), nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway+"/v1/attempts/iris/2/code", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+newTokens(t, seed).Token(iris))
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// relay serves handler over TLS, and returns a client of it.
func relay(t *testing.T, handler http.HandlerFunc) (*Client, Config) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return connect(t, Config{URL: server.URL, Token: "trt_secret", CA: string(ca)})
}

func connect(t *testing.T, cfg Config) (*Client, Config) {
	t.Helper()
	c, err := New(cfg, Options{UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, cfg
}

func TestRequest(t *testing.T) {
	c, _ := relay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/v1/jobs/a%2Fb" || r.Header.Get("Authorization") != "Bearer trt_secret" || r.Header.Get("User-Agent") != "test/1" {
			t.Errorf("%s %v", r.URL.EscapedPath(), r.Header)
		}
		fmt.Fprint(w, `{"name":"a/b","from_a_later_version":1}`)
	})
	if job, err := c.Job(t.Context(), "a/b"); err != nil || job.Name != "a/b" {
		t.Errorf("%+v, %v", job, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   APIError
	}{
		{"problem", 422, `{"title":"Unprocessable Entity","detail":"the job is not valid","errors":[{"location":"body.name","message":"is bad","value":"x"}]}`,
			APIError{Status: 422, Title: "Unprocessable Entity", Detail: "the job is not valid", Problems: []Problem{{"body.name", "is bad"}}, RequestID: "r1"}},
		{"not the relay's", 502, `<html>Bad Gateway</html>`,
			APIError{Status: 502, Title: "Bad Gateway", Detail: `502 Bad Gateway, and not in the relay's form: does a proxy answer in its place? "<html>Bad Gateway</html>"`, RequestID: "r1"}},
		{"redirect", 302, ``,
			APIError{Status: 302, Title: "Found", Detail: `302 Found, and not in the relay's form: does a proxy answer in its place? ""`, RequestID: "r1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			c, _ := relay(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("Location", "/elsewhere")
				w.Header().Set("X-Request-Id", "r1")
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			_, err := c.Job(t.Context(), "j")
			var got *APIError
			if !errors.As(err, &got) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, *got); diff != "" || asked != 1 {
				t.Errorf("asked %d times; %s", asked, diff)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	_, cfg := relay(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":`) })
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	stranger := string(testkit.NewAuthority(t).PEM)
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"nobody listens", Config{URL: gone.URL, CA: cfg.CA}, "connection refused"},
		{"another authority", Config{URL: cfg.URL, CA: stranger}, "is it another relay"},
		{"another name", Config{URL: strings.Replace(cfg.URL, "127.0.0.1", "localhost", 1), CA: cfg.CA}, "--host localhost"},
		{"not TLS", Config{URL: strings.Replace(plain.URL, "http:", "https:", 1), CA: cfg.CA}, "HTTP response to HTTPS client"},
		{"half an answer", cfg, "broke off"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := connect(t, tc.cfg)
			_, err := c.Job(t.Context(), "j")
			var got *UnreachableError
			if !errors.As(err, &got) || got.URL != tc.cfg.URL || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(fmt.Sprint(err), "trt_secret") {
				t.Errorf("the error has the token: %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, _ := connect(t, cfg)
	var unreachable *UnreachableError
	if _, err := c.Job(ctx, "j"); !errors.Is(err, context.Canceled) || errors.As(err, &unreachable) {
		t.Errorf("canceled: %v", err)
	}
}

// TestDeadConnectionIsLeft: behind a firewall that has forgotten the
// connection, and closed nothing, a new one is made.
func TestDeadConnectionIsLeft(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("asked by %s", r.Proto)
		}
		fmt.Fprint(w, `{"name":"j"}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	proxy := testkit.StartProxy(t, testkit.ProxyOptions{})
	c, err := New(Config{URL: server.URL, CA: string(ca)}, Options{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy.Addr}),
		Pings: dial.Pings{After: 50 * time.Millisecond, Timeout: 500 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Job(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	// Long enough for pings, and far from what a dead connection would take.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = c.Job(ctx, "j") // over the dead connection, unless that was found out already
	for ; err != nil && ctx.Err() == nil; _, err = c.Job(ctx, "j") {
	}
	if err != nil {
		t.Errorf("the dead connection is still used: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "http://relay.example"}, "in the clear"},
		{Config{URL: "relay.example:8443"}, "not a URL"},
		{Config{URL: "https://relay.example", CA: "x"}, "not a certificate"},
	} {
		if _, err := New(tc.cfg, Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want one with %q", tc.cfg, err, tc.want)
		}
	}
}

func TestConfigFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.json")
	want := Config{URL: "https://relay.example", Token: "trt_secret", CA: "pem\n"}
	for range 2 { // the second time over the first
		if err := want.Save(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadConfig(file)
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte(`{"url":"https://relay.example"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(file); err == nil || !strings.Contains(err.Error(), "token is missing") {
		t.Error(err)
	}
	if _, err := LoadConfig(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestSnapshotRefusedEarly: a relay that refuses at once ends the packing.
func TestSnapshotRefusedEarly(t *testing.T) {
	c, _ := relay(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInsufficientStorage)
		_ = json.NewEncoder(w).Encode(map[string]string{"detail": "the blob store is full"})
	})
	var refused *APIError
	err := c.PutSnapshot(t.Context(), "sha256:x", func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return fmt.Errorf("pack: %w", err)
			}
		}
	})
	if !errors.As(err, &refused) || refused.Status != http.StatusInsufficientStorage {
		t.Errorf("error %v", err)
	}
}

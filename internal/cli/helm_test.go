package cli

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// TestAwaitBearsARestart: a relay that does not answer for a while is asked
// again; one that never does is what the error ends with, and one that refuses
// is not asked again.
func TestAwaitBearsARestart(t *testing.T) {
	type answer = http.HandlerFunc
	status := func(code int, detail string) answer {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(map[string]any{"detail": detail})
		}
	}
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	connected := func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(v1.Cluster{Name: "c", PublicKey: "U", Connectivity: v1.Connected})
	}
	for name, tc := range map[string]struct {
		answers []answer // the last one again and again
		timeout time.Duration
		want    string // of the error; empty for none
	}{
		"restarts": {[]answer{status(503, "the relay is stopping"), broken, connected}, time.Minute, ""},
		"away":     {[]answer{broken, status(502, "bad gateway")}, 200 * time.Millisecond, "the agent of cluster c has not joined after 200ms, as far as is known, for the last look failed: the relay refused (502): bad gateway"},
		"refuses":  {[]answer{status(401, "the token is not known"), connected}, time.Minute, "the token is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				tc.answers[min(asked, len(tc.answers))-1](w, r)
			}))
			defer server.Close()
			authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			relay, err := client.New(client.Config{URL: server.URL, Token: "trt_x", CA: string(authority)}, client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer relay.Close()
			a, _, _ := testApp(false, nil)
			h := &helm{Timeout: tc.timeout, look: time.Millisecond}
			cluster, err := h.await(t.Context(), relay, "c", a.newLine())
			if tc.want == "" && (err != nil || cluster.Connectivity != v1.Connected) {
				t.Errorf("%+v, %v", cluster, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

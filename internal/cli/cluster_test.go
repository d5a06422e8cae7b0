package cli

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// TestSeedIsShown: what would not show a new cluster's key is refused before
// there is one.
func TestSeedIsShown(t *testing.T) {
	for _, tc := range []struct {
		output
		shown bool
	}{
		{output{}, true},
		{output{Format: "json"}, true},
		{output{Format: "jsonc"}, true},
		{output{Format: "yaml"}, true},
		{output{Format: "tsv"}, true},
		{output{Format: "table"}, false},
		{output{Format: "none"}, false},
		{output{Format: "none", Query: "seed"}, false},
		{output{Query: "seed"}, true},
		{output{Query: "name"}, false},
		{output{Query: "length(seed)"}, false},
		{output{Query: "abs(seed)"}, false},
		{output{Query: "{n: name, s: seed}", Format: "table"}, true},
		{output{Query: "{n: name, s: {s: seed}}", Format: "tsv"}, false},
	} {
		err := (&clusterAdd{output: tc.output}).showsSeed("onprem-1")
		if (err == nil) != tc.shown || err != nil && !errors.As(err, new(usage)) {
			t.Errorf("%+v: %v", tc.output, err)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestClusterAddUnwritten: where the key could not be printed, it is told how
// to get another one.
func TestClusterAddUnwritten(t *testing.T) {
	relay := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		if err := json.NewEncoder(w).Encode(v1.NewCluster{Cluster: v1.Cluster{Name: "onprem-1"}, Seed: "SUSEED"}); err != nil {
			t.Error(err)
		}
	}))
	defer relay.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: relay.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "client.json")
	if err := (client.Config{URL: relay.URL, Token: "trt_x", CA: string(authority)}).Save(file); err != nil {
		t.Fatal(err)
	}
	for _, to := range [][]string{nil, {"--secret-file", "-"}} {
		a, _, errs := testApp(false, nil)
		a.io.Out = full{}
		code := Main(t.Context(), append([]string{"cluster", "add", "onprem-1", "--config", file}, to...), a.io, nil)
		text := errs.String()
		if code != exitError || !strings.Contains(text, "its key is lost: ") || !strings.Contains(text, "no space left\n  hint: to make a new key: trainrelay cluster delete -n onprem-1") {
			t.Errorf("%q: code %d, %s", to, code, text)
		}
		if strings.Contains(text, "Next,") {
			t.Errorf("%q: next steps without a key: %s", to, text)
		}
	}
}

// TestNextStepsTrustTheRelay: the chart mounts the relay's CA from the Secret,
// unless it is told that there is none in it.
func TestNextStepsTrustTheRelay(t *testing.T) {
	for ca, system := range map[string]bool{"": true, "-----BEGIN CERTIFICATE-----": false} {
		for _, file := range []string{"", "-", "secret.yaml"} {
			a, _, errs := testApp(false, nil)
			a.nextSteps(client.Config{URL: "https://relay.example", CA: ca}, v1.NewCluster{Cluster: v1.Cluster{Name: "onprem-1"}}, file)
			if got := strings.Contains(errs.String(), "--set 'computeNamespaces={NAMESPACE}' --set relay.ca=system\n"); got != system {
				t.Errorf("CA %q, file %q: relay.ca=system is %v: %s", ca, file, got, errs)
			}
			if file == "" && strings.Contains(errs.String(), "and the relay's CA into its key relay-ca.crt") == system {
				t.Errorf("CA %q: %s", ca, errs)
			}
		}
	}
}

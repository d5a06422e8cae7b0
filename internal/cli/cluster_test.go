package cli

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestValuesAreYAML: what helm reads on stdin is what was meant, whatever is in
// it, and a line of it cannot end the shell's document.
func TestValuesAreYAML(t *testing.T) {
	c := &clusterConnect{ComputeNamespace: []string{"train"}, ProxyHTTPS: "http://u:p%27%22@proxy:3128", ProxySkipRange: "*"}
	v, err := c.values("onprem-1", client.Config{URL: "https://relay.example", CA: "-----BEGIN\nEOF\n-----END\n"})
	if err != nil {
		t.Fatal(err)
	}
	v.Join.Token = "trj_x"
	text, err := v.text()
	if err != nil {
		t.Fatal(err)
	}
	want := `relay:
  url: https://relay.example
  caBundle: |
    -----BEGIN
    EOF
    -----END
cluster:
  name: onprem-1
computeNamespaces:
- train
join:
  token: trj_x
proxy:
  https: http://u:p%27%22@proxy:3128
  noProxy: "*"
`
	if string(text) != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	if got := v.hide("at 'http://u:p%27%22@proxy:3128' and trj_x"); got != "at '…' and …" {
		t.Errorf("hidden: %s", got)
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"--set": "--set", "a=b": "a=b", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "a b": "'a b'", "{a,b}": "'{a,b}'",
	} {
		if got := quote(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// TestClusterDetails: a cluster's table holds what it is and what its agent says.
func TestClusterDetails(t *testing.T) {
	a, out, _ := testApp(false, nil)
	cluster := v1.Cluster{
		Name: "onprem-1", Connectivity: v1.Connected, Problems: []string{"the policy is broken"},
		Check:     &protocol.Check{Results: []protocol.CheckResult{{Name: "dns", OK: true}, {Name: "proxy"}, {Name: "clock"}}},
		Incidents: &v1.Incidents{Count: 3, Last: protocol.Incident{Kind: protocol.Forged}},
	}
	for _, c := range []v1.Cluster{cluster, {Name: "onprem-2", Connectivity: v1.NeverConnected}} {
		if err := a.print(output{Format: formatTable}, c, formatJSON, clusterDetails); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"onprem-1  Connected", "the policy is broken", "proxy, clock", "3          forged", "onprem-2  NeverConnected"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// TestClusterShowsTheCheck: the table of one cluster is followed by what its
// agent found.
func TestClusterShowsTheCheck(t *testing.T) {
	relay := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v1.Cluster{Name: "onprem-1", Connectivity: v1.Connected, Check: &protocol.Check{Results: []protocol.CheckResult{
			{Name: "dns", OK: true, Detail: "resolves"}, {Name: "proxy", Detail: "refused", Fix: "ask its owner"}, {Name: "tls", Skipped: true, Detail: "not tried"}}}})
	}))
	defer relay.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: relay.Certificate().Raw})
	for format, want := range map[string][]string{
		"table": {"onprem-1  Connected", "Check  Result  Found\n", "dns    ok      resolves\nproxy  FAIL    refused\n               fix: ask its owner\ntls    skip    not tried\n"},
		"tsv":   {"onprem-1"},
	} {
		a, out, notes := testApp(false, nil)
		file := filepath.Join(t.TempDir(), "client.json")
		if err := (client.Config{URL: relay.URL, Token: "trt_x", CA: string(authority)}).Save(file); err != nil {
			t.Fatal(err)
		}
		if code := Main(t.Context(), []string{"cluster", "show", "-n", "onprem-1", "-o", format, "--config", file}, a.io); code != 0 {
			t.Fatalf("exit code %d: %s", code, notes)
		}
		for _, words := range want {
			if !strings.Contains(out.String(), words) {
				t.Errorf("%s: %q is missing in\n%s", format, words, out)
			}
		}
		if format != "table" && strings.Contains(out.String(), "Result") {
			t.Errorf("%s has a table:\n%s", format, out)
		}
	}
}

// terminal is an input that is one, too.
type terminal struct {
	io.Reader
	io.Writer
}

// TestConfirm: on a terminal people are asked, and what they say counts.
func TestConfirm(t *testing.T) {
	asked := ""
	relay := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any = v1.ComputeList{Value: []v1.Compute{{Name: "a", ComputeSettings: v1.ComputeSettings{Cluster: "onprem-1"}, Active: 1, Queued: 2}, {Name: "b", ComputeSettings: v1.ComputeSettings{Cluster: "other"}, Active: 9}}}
		if strings.HasSuffix(r.URL.Path, "/disconnect") {
			asked, answer = r.URL.Path, v1.Disconnection{Cluster: "onprem-1"}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer relay.Close()
	file := filepath.Join(t.TempDir(), "client.json")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: relay.Certificate().Raw})
	if err := (client.Config{URL: relay.URL, Token: "trt_x", CA: string(authority)}).Save(file); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		answer, more string
		code         int
	}{
		{"y\n", "", exitOK}, {"YES", "", exitOK}, {"n\n", "", exitUsage}, {"\n", "", exitUsage}, {"", "", exitUsage}, {"", "--yes", exitOK},
	} {
		a, _, errs := testApp(true, nil)
		asked = ""
		a.io.In = terminal{strings.NewReader(tc.answer), io.Discard}
		args := append([]string{"cluster", "disconnect", "onprem-1", "--jobs", "cancel", "--config", file}, strings.Fields(tc.more)...)
		code := Main(t.Context(), args, a.io)
		if code != tc.code || (asked != "") != (code == exitOK) {
			t.Errorf("%+v: code %d, asked the relay %q: %s", tc, code, asked, errs)
		}
		if question := "Cluster onprem-1 has 1 job in it and 2 that wait for it; they are canceled."; strings.Contains(errs.String(), question) != (tc.more == "") {
			t.Errorf("%+v: %s", tc, errs)
		}
	}
	// A Ctrl-C at the question is an answer, too.
	asked = ""
	silent, end := io.Pipe()
	defer end.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	a, _, _ := testApp(true, nil)
	a.io.In, a.io.Err = terminal{silent, io.Discard}, at{"(y/n)", interrupt}
	if code := Main(ctx, []string{"cluster", "disconnect", "onprem-1", "--config", file}, a.io); code != exitInterrupted || asked != "" {
		t.Errorf("interrupted: code %d, asked the relay %q", code, asked)
	}
}

// at does something when certain words are written.
type at struct {
	words string
	do    func()
}

func (a at) Write(p []byte) (int, error) {
	if strings.Contains(string(p), a.words) {
		a.do()
	}
	return len(p), nil
}

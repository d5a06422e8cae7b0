package cli

import (
	"bytes"
	"strings"
	"testing"

	v1 "github.com/trainrelay/trainrelay/internal/v1"

	"github.com/trainrelay/trainrelay/internal/client"
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

// TestConfirm: on a terminal the answer decides.
func TestClusterDetails(t *testing.T) {
	a, out, _ := testApp(false, nil)
	if err := a.print(output{Format: formatTable}, v1.Cluster{Name: "onprem-1", Connectivity: v1.NeverConnected}, formatJSON, clusterDetails); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "onprem-1  NeverConnected") || !bytes.Contains(out.Bytes(), []byte("Incidents")) {
		t.Errorf("%s", out)
	}
}

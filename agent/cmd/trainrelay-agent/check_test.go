package main

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestCheck: check takes the command line of run, and says what is wrong with
// each output.
func TestCheck(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	args := append([]string{"check"}, runArguments(t, "--relay-url=https://"+dead.Addr().String())...)
	check := func(more ...string) (bool, string) {
		t.Helper()
		var g grammar
		if _, err := kong.Must(&g, options()...).Parse(append(args, more...)); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		ok, err := g.Check.do(t.Context(), &out, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		return ok, out.String()
	}
	ok, text := check()
	if ok || !strings.Contains(text, "\nFAIL  proxy") || !strings.Contains(text, "  fix: nothing listens at this address") || !strings.Contains(text, "\nskip  tls") {
		t.Errorf("%v\n%s", ok, text)
	}
	ok, text = check("-o", "json")
	var found protocol.Check
	if err := json.Unmarshal([]byte(text), &found); err != nil || ok || len(found.Results) < 10 {
		t.Errorf("%v %v\n%s", ok, err, text)
	}
	ok, text = check("--proxy-ca-file=/nowhere")
	if ok || !strings.HasPrefix(text, "FAIL  settings") || !strings.Contains(text, "/nowhere") {
		t.Errorf("%v\n%s", ok, text)
	}
}

func TestTable(t *testing.T) {
	got := table(&protocol.Check{Results: []protocol.CheckResult{
		{Name: "dns", OK: true, Detail: "resolves"},
		{Name: "proxy", Detail: "refused", Fix: "ask"},
		{Name: "tls", Skipped: true, Detail: "not tried"},
	}})
	want := `ok    dns    resolves
FAIL  proxy  refused
             fix: ask
skip  tls    not tried
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

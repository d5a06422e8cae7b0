package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "usage:"},
		{"serve", 2, "usage:"},
		{"fetch --help", 0, "usage:"},
		{"fetch --nonsense", 2, "not defined: -nonsense"},
		{"fetch --dir d extra", 2, `unexpected argument "extra"`},
		{"fetch --url http://127.0.0.1:1 --dir d --digest " + digest, 1, "no token file"},
	} {
		var out strings.Builder
		if code := run(t.Context(), strings.Fields(tt.args), &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q exits with %d, says %q; want %d, %q", tt.args, code, out.String(), tt.code, tt.want)
		}
	}
}

// The launcher goes into users' pods: it stays small.
func TestLinksLittle(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"k8s.io/", "github.com/nats-io/", "github.com/prometheus/", "github.com/go-git/"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("the launcher links %s", dep)
			}
		}
	}
}

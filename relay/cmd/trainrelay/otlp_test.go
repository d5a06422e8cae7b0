package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeaders(t *testing.T) {
	got, err := parseHeaders("# of the collector\nAuthorization = Basic dXNlcjpwYXNz==\n\nx-scope-orgid=1\r\n")
	want := http.Header{"Authorization": {"Basic dXNlcjpwYXNz=="}, "X-Scope-Orgid": {"1"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	for _, text := range []string{"x=1\nsecret", "=secret", "a b=secret", "a=secret\x00"} {
		if _, err := parseHeaders(text); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

package agent

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestRounds: checks are done at once, now and then, and once in each failure
// of the link that lasts.
func TestRounds(t *testing.T) {
	var r rounds
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after      time.Duration
		fails, due bool
	}{
		{0, false, true},
		{5 * time.Second, true, false},
		{time.Minute, true, false},
		{65 * time.Second, true, true},
		{70 * time.Second, true, false}, // once
		{80 * time.Second, false, false},
		{90 * time.Second, true, false}, // another failure
		{140 * time.Second, false, false},
		{150 * time.Second, true, false},
		{210 * time.Second, true, true},
		{12 * time.Minute, true, false},
		{14 * time.Minute, true, true}, // it is time anyway
		{23 * time.Minute, false, false},
		{24 * time.Minute, false, true},
	} {
		if got := r.due(begin.Add(step.after), step.fails); got != step.due {
			t.Errorf("after %s: %v", step.after, got)
		}
	}
}

// TestCheckTrustsWhatTheAgentDoes: a check by hand trusts the authority that
// the agent learnt when it joined, though the chart names none.
func TestCheckTrustsWhatTheAgentDoes(t *testing.T) {
	authority := testkit.NewAuthority(t)
	relay := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	relay.Config.ErrorLog = log.New(io.Discard, "", 0)
	relay.TLS = authority.Server("127.0.0.1")
	relay.StartTLS()
	defer relay.Close()
	secrets := &secretAPI{ca: string(authority.PEM)}
	secrets.hold(t, []byte(strings.Repeat("g", 32)))
	api := httptest.NewServer(secrets)
	defer api.Close()
	at, err := url.Parse(relay.URL)
	if err != nil {
		t.Fatal(err)
	}
	found := Check(t.Context(), DaemonOptions{Secret: "trainrelay-agent", JoinTokenFile: "none", Agent: Options{
		Relay: at, Kube: &rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}},
		Namespaces: []string{"train"}, PodNamespace: "azureml", Log: zerolog.Nop(),
	}}, nil)
	i := slices.IndexFunc(found.Results, func(r protocol.CheckResult) bool { return r.Name == "tls" })
	if r := found.Results[max(0, i)]; !r.OK || !strings.Contains(r.Detail, "the relay's own authority") {
		t.Errorf("%+v", r)
	}
}

// TestCheckWithoutAnything: what main could not read is what the check says,
// whatever else is missing.
func TestCheckWithoutAnything(t *testing.T) {
	found := Check(t.Context(), DaemonOptions{Agent: Options{Relay: &url.URL{}}}, errors.New("open /etc/seed: no such file"))
	for i, r := range found.Results {
		if r.OK || r.Skipped != (i > 0) {
			t.Errorf("%+v", r)
		}
	}
}

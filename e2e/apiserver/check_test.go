package apiserver

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/agent"
	"github.com/trainrelay/trainrelay/agent/check"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestCheck: with a real relay and a real API server all is well, and what is
// not is found, with what to do about it.
func TestCheck(t *testing.T) {
	watch := check.Right{Where: check.Computes, Resource: "jobs", Verb: "watch"}
	secrets := check.Right{Where: check.Home, Resource: "secrets", Verb: "get"}
	for _, tc := range []struct {
		name    string
		without *check.Right
		join    bool
		change  func(*plot, *agent.DaemonOptions)
		want    map[string][2]string // what is found wrong, and the fix
	}{
		{name: "all is well", join: true},
		{"a right is missing", &watch, true, nil, map[string][2]string{
			"rights": {" rights are missing: watch jobs in test-", "upgrade the chart"}}},
		{"the Secret cannot be read", &secrets, false, nil, map[string][2]string{
			"rights":      {"get secrets named trainrelay-agent in test-", "upgrade the chart"},
			"credentials": {"forbidden", "cluster connect"}}},
		{"the cluster has not joined", nil, false, nil, map[string][2]string{
			"credentials": {"", "cluster connect"}}},
		{"a namespace is missing", nil, true, func(p *plot, o *agent.DaemonOptions) { o.Agent.Namespaces = []string{p.gone} }, map[string][2]string{
			"rights": {"does not exist", "kubectl create namespace gone-"}}},
		{"no token", nil, true, func(_ *plot, o *agent.DaemonOptions) {
			kube := *o.Agent.Kube
			kube.BearerToken = "none"
			o.Agent.Kube = &kube
		}, map[string][2]string{
			"api-server":  {"does not accept the agent's token", "ServiceAccount"},
			"credentials": {"Unauthorized", "cluster connect"}}},
		{"no policy", nil, true, func(p *plot, o *agent.DaemonOptions) { o.Agent.PolicyFile = policyFile(p.T, "imagess: []") }, map[string][2]string{
			"policy": {"imagess", "chart's value policy"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPlot(t, tc.without), newCloud(t, zerolog.Nop())
			o := p.options(c)
			if tc.join {
				p.daemon(o)
				joined := func() bool {
					seen, err := c.Cluster(t.Context(), "onprem")
					return err == nil && seen.Connectivity == v1.Connected && seen.Check != nil
				}
				// And the relay has what the leader found.
				if !p.eventually(joined) {
					t.Fatal("the relay has no check")
				}
			}
			if tc.change != nil {
				tc.change(p, &o)
			}
			found := agent.Check(t.Context(), o, nil)
			results := make(map[string]protocol.CheckResult)
			for _, r := range found.Results {
				results[r.Name] = r
				// What makes no sense after a failure is skipped.
				if _, bad := tc.want[r.Name]; !bad && !r.OK && (!r.Skipped || len(tc.want) == 0) {
					t.Errorf("%+v", r)
				}
			}
			for name, want := range tc.want {
				r, there := results[name]
				if !there || r.OK || r.Skipped || !strings.Contains(r.Detail, want[0]) || !strings.Contains(r.Fix, want[1]) {
					t.Errorf("%s: %+v, want %q and the fix %q", name, r, want[0], want[1])
				}
			}
			if len(tc.want) == 0 {
				seen, err := c.Cluster(t.Context(), "onprem")
				if err != nil || names(seen.Check) != names(found) {
					t.Errorf("the relay has %s, the check is %s, %v", names(seen.Check), names(found), err)
				}
			}
		})
	}
}

func names(c *protocol.Check) string {
	var all []string
	for _, r := range c.Results {
		all = append(all, r.Name)
	}
	return strings.Join(all, " ")
}

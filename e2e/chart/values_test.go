package chart

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/trainrelay/trainrelay/deploy"
)

// changes gives each value of values.yaml another one than its default, with
// what else has to be set for it to matter.
var changes = map[string]string{
	"relay.url":                     "relay.url=https://other.example.com",
	"relay.natsURL":                 "relay.natsURL=tls://nats.example.com:4222",
	"relay.caBundle":                "relay.caBundle=-----BEGIN CERTIFICATE-----",
	"cluster.name":                  "cluster.name=other",
	"join.token":                    "join.token=trj_" + strings.Repeat("A", 64),
	"computeNamespaces":             "computeNamespaces={train,vision}",
	"policy":                        "policy.images={ghcr.io/team/**},policy.maxPerJob.instances=2",
	"proxy.https":                   "proxy.https=http://proxy:3128",
	"proxy.http":                    "proxy.http=http://proxy:3128",
	"proxy.noProxy":                 "proxy.noProxy=10.0.0.0/8;proxy.https=http://proxy:3128",
	"proxy.caBundle":                "proxy.caBundle=-----BEGIN CERTIFICATE-----;proxy.https=http://proxy:3128",
	"proxy.existingSecret.name":     "proxy.existingSecret.name=site-proxy",
	"proxy.existingSecret.httpsKey": "proxy.existingSecret.httpsKey=url;proxy.existingSecret.name=site-proxy",
	"proxy.existingSecret.httpKey":  "proxy.existingSecret.httpKey=url;proxy.existingSecret.name=site-proxy",
	"inventory.pods":                "inventory.pods=false",
	"extension":                     "extension.enableTraining=true",
	"image.registry":                "image.registry=mirror.example.com:5000/hub",
	"image.repository":              "image.repository=other",
	"image.tag":                     "image.tag=dev",
	"image.digest":                  "image.digest=sha256:" + strings.Repeat("0", 64),
	"image.pullPolicy":              "image.pullPolicy=Never",
	"imagePullSecrets":              "imagePullSecrets[0].name=registry",
	"gateway.port":                  "gateway.port=9090",
	"health.port":                   "health.port=9091",
	"logLevel":                      "logLevel=debug",
	"resources.requests.cpu":        "resources.requests.cpu=1",
	"resources.requests.memory":     "resources.requests.memory=1Gi",
	"resources.limits.memory":       "resources.limits.memory=1Gi",
	"tolerations":                   "tolerations=null",
	"nodeSelector.kubernetes.io/os": "nodeSelector.pool=gpu",
	"priorityClassName":             "priorityClassName=system-node-critical",
	"podLabels":                     "podLabels.team=ml",
	"podAnnotations":                "podAnnotations.team=ml",
	"namespace.create":              "namespace.create=true",
}

// TestEveryValueIsRead: each value changes what is rendered, so none is there
// that nothing reads.
func TestEveryValueIsRead(t *testing.T) {
	text, err := fs.ReadFile(deploy.AgentChart(), "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(leaves("", defaults)))
	if got := slices.Sorted(maps.Keys(changes)); !slices.Equal(got, want) {
		t.Errorf("this test changes\n%q, values.yaml has\n%q", got, want)
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			change, rest, _ := strings.Cut(change, ";")
			before, err := Render(values(t, minimal, rest))
			if err != nil {
				t.Fatal(err)
			}
			after, err := Render(values(t, minimal, rest, change))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(before, after) {
				t.Errorf("--set %s changes nothing", change)
			}
		})
	}
}

// TestWordsThatLookLikeNumbers: a name that YAML would take for a number or a
// boolean stays a name.
func TestWordsThatLookLikeNumbers(t *testing.T) {
	set := map[string]any{
		"relay": map[string]any{"url": "https://relay.example.com:8443"}, "cluster": map[string]any{"name": "123"},
		"computeNamespaces": []any{"2025", "true", "1e3"}, "priorityClassName": "0x10",
		"proxy":     map[string]any{"existingSecret": map[string]any{"name": "42", "httpsKey": "on", "httpKey": "1.5"}},
		"podLabels": map[string]any{"team": "7"}, "podAnnotations": map[string]any{"team": "7"}, "nodeSelector": map[string]any{"pool": "007"},
		"imagePullSecrets": []any{map[string]any{"name": "12"}}, "policy": map[string]any{"namespaces": []any{"2025"}},
		"image": map[string]any{"tag": "1"},
	}
	all := decoded(t, set) // strictly: a number in a name's place fails
	daemon := find[*appsv1.DaemonSet](t, all)
	if daemon.Annotations["trainrelay.dev/cluster"] != "123" || daemon.Spec.Template.Spec.PriorityClassName != "0x10" {
		t.Errorf("%+v", daemon)
	}
	roles := make(map[string]bool)
	for _, object := range all {
		if role, ok := object.(*rbacv1.Role); ok {
			roles[role.Namespace] = true
		}
	}
	if want := map[string]bool{"2025": true, "true": true, "1e3": true, "azureml": true}; !maps.Equal(roles, want) {
		t.Errorf("Roles in %v, want %v", roles, want)
	}
}

// leaves lists the dotted names of the values below a map. An empty map is a
// value itself.
func leaves(prefix string, of map[string]any) []string {
	var names []string
	for key, value := range of {
		if below, ok := value.(map[string]any); ok && len(below) > 0 {
			names = append(names, leaves(prefix+key+".", below)...)
			continue
		}
		names = append(names, prefix+key)
	}
	return names
}

// TestNotes: what helm prints after an install can be followed as it stands.
func TestNotes(t *testing.T) {
	for set, want := range map[string]string{
		"":                                     "directly, without a proxy.",
		"proxy.https=http://proxy:3128":        "through http://proxy:3128.",
		"proxy.https=http://u:hunter2@proxy:3": "through http://proxy:3.",
		"proxy.http=u:hunter2@proxy:3":         "through proxy:3.",
		"proxy.existingSecret.name=site-proxy": "through the proxy named in the Secret site-proxy.",
	} {
		files, err := render(values(t, minimal, set))
		if err != nil {
			t.Fatal(err)
		}
		notes := files["trainrelay-agent/templates/NOTES.txt"]
		for _, want := range []string{
			fmt.Sprintf("The agent of cluster onprem-1 dials https://relay.example.com:8443 %s\n", want),
			"trainrelay cluster connect --name onprem-1.\n",
			"kubectl --namespace azureml rollout status daemonset/trainrelay-agent",
			"--cluster onprem-1 --namespace train\n",
		} {
			if !strings.Contains(notes, want) {
				t.Errorf("--set %s: the notes lack %q:\n%s", set, want, notes)
			}
		}
	}
}

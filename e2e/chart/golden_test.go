package chart

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

//go:generate go test . -run ^Test(ManifestsInStep|Rights|Reasons)$ -update

var update = flag.Bool("update", false, "write the plain manifests instead of comparing them")

// heading stands above the plain manifests.
const heading = `# The agent of trainrelay, for clusters without Helm. Generated from
# deploy/charts/trainrelay-agent by make generate: change the chart, not this file.
#
# 1. Put your own values where these stand:
#      https://relay.example.com:8443   the relay, as the cluster reaches it
#      onprem-1                         the name given to trainrelay cluster connect
#      train                            the namespace for training, which has to exist
#      http://proxy.example.com:3128    the site's proxy; without one take HTTPS_PROXY away
#      JOIN-TOKEN                       what trainrelay cluster connect --name onprem-1 -o json gave as join_token
#    and the authority of the relay's certificate, PEM, into relay.crt; without one of
#    its own take TRAINRELAY_RELAY_CA_FILE, and the ConfigMap and volume ca, away.
# 2. kubectl apply --server-side -f agent.yaml
`

const (
	sampleToken = "trj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	sampleProxy = "http://proxy.example.com:3128"
)

// checksums restart pods when helm changes something; nobody else updates them.
var checksums = regexp.MustCompile(`(?m)^ +annotations:\n( +#.*\n)* +checksum/.*\n( +checksum/.*\n)*`)

// TestManifestsInStep: the plain manifests are what the chart gives.
func TestManifestsInStep(t *testing.T) {
	all := values(t, minimal, "namespace.create=true,proxy.https=http://proxy.example.com:3128",
		"join.token="+sampleToken, "relay.caBundle=-----BEGIN CERTIFICATE-----")
	manifests, err := Render(all)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(
		"app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl",
		// To be edited as they are meant, not in base64.
		"data:\n  token: "+base64.StdEncoding.EncodeToString([]byte(sampleToken)), "stringData:\n  token: JOIN-TOKEN",
		"data:\n  https-proxy: "+base64.StdEncoding.EncodeToString([]byte(sampleProxy)), "stringData:\n  https-proxy: "+sampleProxy,
		"    -----BEGIN CERTIFICATE-----\n", "    -----BEGIN CERTIFICATE-----\n    …\n    -----END CERTIFICATE-----\n",
	).Replace(string(manifests))
	plain = checksums.ReplaceAllString(plain, "")
	golden(t, filepath.Join("..", "..", "deploy", "manifests", "agent.yaml"), heading+plain)
}

// TestRights: the agent may do what stands in testdata/rights.txt and nothing
// else. A change there is a change of what admins agreed to: CHANGELOG.
func TestRights(t *testing.T) {
	var rights []string
	add := func(kind, namespace string, rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			for _, resource := range rule.Resources {
				line := fmt.Sprintf("%s %s: %s %s", kind, namespace, strings.Join(rule.Verbs, ","), resource)
				if len(rule.ResourceNames) > 0 {
					line += " named " + strings.Join(rule.ResourceNames, ",")
				}
				rights = append(rights, line)
			}
		}
	}
	bound := make(map[string]string)
	for _, object := range objects(t, minimal, "computeNamespaces={train,vision}") {
		switch o := object.(type) {
		case *rbacv1.Role:
			add("Role", o.Namespace, o.Rules)
		case *rbacv1.ClusterRole:
			add("ClusterRole", "*", o.Rules)
		case *rbacv1.RoleBinding:
			bound["Role "+o.Namespace] = subjects(o.RoleRef, o.Subjects)
		case *rbacv1.ClusterRoleBinding:
			bound["ClusterRole *"] = subjects(o.RoleRef, o.Subjects)
		}
	}
	slices.Sort(rights)
	golden(t, filepath.Join("testdata", "rights.txt"), strings.Join(rights, "\n")+"\n")
	want := map[string]string{
		"ClusterRole *": "ClusterRole/trainrelay-agent to azureml/trainrelay-agent",
		"Role azureml":  "Role/trainrelay-agent to azureml/trainrelay-agent",
		"Role train":    "Role/trainrelay-agent to azureml/trainrelay-agent",
		"Role vision":   "Role/trainrelay-agent to azureml/trainrelay-agent",
	}
	if diff := cmp.Diff(want, bound); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
}

func subjects(ref rbacv1.RoleRef, to []rbacv1.Subject) string {
	var names []string
	for _, subject := range to {
		names = append(names, subject.Namespace+"/"+subject.Name)
	}
	return fmt.Sprintf("%s/%s to %s", ref.Kind, ref.Name, strings.Join(names, ","))
}

// golden compares got with a file, or writes the file under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run make generate", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the chart gives; run make generate (-file +chart):\n%s", file, diff)
	}
}

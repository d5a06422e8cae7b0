package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/trainrelay/trainrelay/agent/check"
)

// TestReasons: the chart gives exactly the rights that `trainrelay-agent check`
// asks for, and docs/rights.md has the reason for each of them, and no more.
func TestReasons(t *testing.T) {
	want, table := rights(), "| where | resource | verb | without it |\n|---|---|---|---|\n"
	for _, r := range check.Rights() {
		if r.Without == "" {
			t.Errorf("%s: nothing breaks without it", r)
		}
		resource := r.Resource
		if r.Name != "" {
			resource += " `" + r.Name + "`"
		}
		table += fmt.Sprintf("| %s | %s | %s | %s |\n", r.Where, resource, r.Verb, r.Without)
	}
	if diff := cmp.Diff(want, given(t)); diff != "" {
		t.Errorf("the chart's rights are not those of check.Rights (-check +chart):\n%s", diff)
	}

	file := filepath.Join("..", "..", "docs", "rights.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(text), "| where |")
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	golden(t, file, before+table)
}

// rights are those of check.Rights, as if train were the one compute namespace.
func rights() []string {
	var all []string
	for _, r := range check.Rights() {
		namespace := map[check.Where]string{check.Home: Namespace, check.Computes: "train", check.Cluster: "*"}[r.Where]
		all = append(all, right(namespace, r.Group, r.Resource, r.Name, r.Verb))
	}
	slices.Sort(all)
	return all
}

// given are the rights of the rendered chart.
func given(t *testing.T) []string {
	var all []string
	add := func(namespace string, rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						for _, verb := range rule.Verbs {
							all = append(all, right(namespace, group, resource, name, verb))
						}
					}
				}
			}
		}
	}
	for _, object := range objects(t, minimal) {
		switch o := object.(type) {
		case *rbacv1.Role:
			add(o.Namespace, o.Rules)
		case *rbacv1.ClusterRole:
			add("*", o.Rules)
		}
	}
	slices.Sort(all)
	return all
}

func right(namespace, group, resource, name, verb string) string {
	return fmt.Sprintf("%s: %s %s/%s %q", namespace, verb, group, resource, name)
}

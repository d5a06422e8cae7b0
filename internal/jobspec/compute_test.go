package jobspec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

func computeFrom(t *testing.T, name string) *ComputeSpec {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("testdata", "compute", name))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := ParseCompute(name, src)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func sized(cpu, memory, gpu string, labels map[string]string) protocol.InstanceType {
	amounts := map[string]string{"cpu": cpu, "memory": memory, "nvidia.com/gpu": gpu}
	return protocol.InstanceType{NodeSelector: labels, Resources: protocol.Amounts{Requests: amounts, Limits: amounts}}
}

// TestCompute: the three forms in which people have such files, the first two
// as the documents of 2021 show them.
func TestCompute(t *testing.T) {
	user := int64(1000)
	k80 := map[string]string{"accelerator": "nvidia-tesla-k80"}
	for name, want := range map[string]ComputeSpec{
		"seed.json": {Namespace: "amlarc-testing", ComputeSettings: protocol.ComputeSettings{
			DefaultInstanceType: "gpu_instance",
			InstanceTypes: map[string]protocol.InstanceType{
				"gpu_instance": sized("2", "16Gi", "1", k80),
				"big_cpu_sku":  sized("4", "16Gi", "0", map[string]string{"VMSizes": "VM-64vCPU-256GB"}),
			},
		}},
		"default.json": {Namespace: "default", ComputeSettings: protocol.ComputeSettings{
			DefaultInstanceType: "defaultInstanceType",
			InstanceTypes:       map[string]protocol.InstanceType{"defaultInstanceType": sized("1", "4Gi", "0", nil)},
		}},
		"2021.yml": {Namespace: "amlarc-testing", ComputeSettings: protocol.ComputeSettings{
			DefaultInstanceType: "gpu_instance",
			InstanceTypes:       map[string]protocol.InstanceType{"gpu_instance": sized("2", "16Gi", "1", k80), "big_cpu_sku": {}},
		}},
		"v2.yml": {
			Name: "on-prem", Description: "The cluster in the basement", Namespace: "train",
			ResourceID: "/subscriptions/123/resourceGroups/rg/providers/Microsoft.Kubernetes/connectedClusters/amlarc-cluster",
			ComputeSettings: protocol.ComputeSettings{
				RunAsUser: &user, PriorityClass: "training", ImagePullSecrets: []string{"mirror"},
				Tolerations: []protocol.Toleration{{Key: "sku", Operator: "Equal", Value: "gpu", Effect: "NoSchedule"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(&want, computeFrom(t, name)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestInvalidCompute(t *testing.T) {
	for src, wants := range map[string][]string{
		``: {"is empty"},
		"instanceTypes: {a: {resources: {limits: {cpu: lots}}}}\ndefaultInstanceType: a": {`f.yml:1:47: "lots" is not a quantity`},
		"instanceTypes: {a: {}}":                              {"no default; name one of a"},
		"instanceTypes: {a: {}}\ndefaultInstanceType: b":      {`the default "b" is none of a`},
		"defaultInstanceType: b":                              {`there are none, and the default is "b"`},
		"instance_types: [{node_selector: {a: b}}]":           {"instance_types[0] has no name"},
		"instance_types: [{name: a}, {name: a}]":              {`instance type "a" is given twice`},
		"instance_types: [{name: a, ressources: {}}]":         {`did you mean "resources"?`},
		"type: amlcompute\nnamespace: Train":                  {"computes of type", `"Train" is not a namespace's name`},
		"instanceTypes: {'a b': {}}":                          {`"a b" is not an instance type's name`},
		"instanceTypes: {a: {nodeSelector: [x]}}":             {"nodeSelector is a list"},
		"tolerations: [{key: a, operator: Exists, value: b}]": {"operator Exists goes without a value"},
		"identity: {type: system_assigned}":                   {"jobs have no identity here"},
		"run_as_user: root":                                   {"must be an integer"},
		"provisioning_state: Succeeded":                       {"is read-only"},
	} {
		_, err := ParseCompute("f.yml", []byte(src))
		var bad *Error
		if !errors.As(err, &bad) {
			t.Errorf("%q: %v", src, err)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v\nlacks %s", src, err, want)
			}
		}
	}
}

// FuzzCompute: a compute's file is settings that a relay takes, or an *Error.
func FuzzCompute(f *testing.F) {
	files, err := filepath.Glob("testdata/compute/*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		spec, err := ParseCompute("f.yml", src)
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Errorf("%v", err)
			}
			return
		}
		if err := spec.Validate(); err != nil {
			t.Errorf("%v", err)
		}
	})
}

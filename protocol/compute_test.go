package protocol

import (
	"fmt"
	"strings"
	"testing"
)

func TestComputeSettings(t *testing.T) {
	if s := settings(); s.Validate() != nil {
		t.Error(s.Validate())
	}
	one := func(t InstanceType) ComputeSettings {
		return ComputeSettings{DefaultInstanceType: "a", InstanceTypes: map[string]InstanceType{"a": t}}
	}
	many := map[string]string{}
	for i := range MaxResources + 1 {
		many[fmt.Sprint("r", i)] = "1"
	}
	for want, s := range map[string]ComputeSettings{
		`there are none, and the default is "a"`:       {DefaultInstanceType: "a"},
		"no default; name one of a":                    {InstanceTypes: map[string]InstanceType{"a": {}}},
		`the default "b" is none of a`:                 {DefaultInstanceType: "b", InstanceTypes: map[string]InstanceType{"a": {}}},
		`"a b" is not an instance type's name`:         {DefaultInstanceType: "a b", InstanceTypes: map[string]InstanceType{"a b": {}}},
		`"many" is not a quantity`:                     one(InstanceType{Resources: Amounts{Limits: map[string]string{"cpu": "many"}}}),
		`"-1" is not a quantity`:                       one(InstanceType{Resources: Amounts{Limits: map[string]string{"cpu": "-1"}}}),
		`"1KiB" is not a quantity`:                     one(InstanceType{Resources: Amounts{Limits: map[string]string{"memory": "1KiB"}}}),
		`"a/b/c" is not a resource's name`:             one(InstanceType{Resources: Amounts{Limits: map[string]string{"a/b/c": "1"}}}),
		"resources.limits: 21, at most 20 are allowed": one(InstanceType{Resources: Amounts{Limits: many}}),
		`node_selector: "a: b c" is not a label`:       one(InstanceType{NodeSelector: map[string]string{"a": "b c"}}),
		"node_selector: 21 labels":                     one(InstanceType{NodeSelector: many}),
		"run_as_user: -1 is not within":                {RunAsUser: ptr(int64(-1))},
		`"A" is not the name of a Secret`:              {ImagePullSecrets: []string{"A"}},
		`"A" is not the name of a PriorityClass`:       {PriorityClass: "A"},
		"operator Exists goes without a value":         {Tolerations: []Toleration{{Key: "a", Operator: "Exists", Value: "b"}}},
		"without a key the operator has to be Exists":  {Tolerations: []Toleration{{Value: "b"}}},
		`operator "Lt" is neither`:                     {Tolerations: []Toleration{{Key: "a", Operator: "Lt"}}},
		`effect "NoFun" is none of`:                    {Tolerations: []Toleration{{Operator: "Exists", Effect: "NoFun"}}},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestQuantities(t *testing.T) {
	for _, text := range []string{"1", "0", "0.5", ".5", "500m", "16Gi", "1e3", "1E-3", "2.5M", "100n"} {
		if err := CheckQuantity(text); err != nil {
			t.Error(err)
		}
	}
}

func TestTypeOf(t *testing.T) {
	theirs := InstanceType{NodeSelector: map[string]string{"sku": "v100"}}
	var none ComputeSettings
	if kind, ok := none.Type(""); !ok || len(kind.NodeSelector) != 0 {
		t.Error("a compute without types has no built-in one")
	}
	none.InstanceTypes = map[string]InstanceType{ClusterDefaultType: theirs}
	if kind, ok := none.Type(""); !ok || kind.NodeSelector["sku"] != "v100" {
		t.Error("the cluster's default type does not count")
	}
	own := settings()
	if _, ok := own.Type(""); ok {
		t.Error("a compute with types has a built-in one, too")
	}
}

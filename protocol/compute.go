package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Compute is a compute target as the relay wants it.
type Compute struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// Revision is another one after each change; what an agent finds of a
	// compute names it.
	Revision uint64 `json:"revision,omitempty"`
	ComputeSettings
}

// ComputeSettings are how the jobs of a compute run.
type ComputeSettings struct {
	// DefaultInstanceType is one of InstanceTypes; empty where there are none.
	DefaultInstanceType string                  `json:"default_instance_type,omitempty"`
	InstanceTypes       map[string]InstanceType `json:"instance_types,omitempty"`
	// RunAsUser is the user that pods run as; nil for that of the image.
	RunAsUser        *int64       `json:"run_as_user,omitempty" minimum:"0"`
	Tolerations      []Toleration `json:"tolerations,omitempty"`
	ImagePullSecrets []string     `json:"image_pull_secrets,omitempty"` // in the compute's namespace
	PriorityClass    string       `json:"priority_class,omitempty"`
}

// InstanceType is what a pod of a job gets, and on which nodes.
type InstanceType struct {
	// NodeSelector are labels that a node must have; none for any node.
	NodeSelector map[string]string `json:"node_selector,omitempty"`
	Resources    Amounts           `json:"resources"`
}

// Amounts are quantities of Kubernetes by the resource's name, such as "16Gi"
// of "memory".
type Amounts struct {
	Requests map[string]string `json:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty"`
}

// Toleration is one of a Kubernetes pod.
type Toleration struct {
	Key               string `json:"key,omitempty"`
	Operator          string `json:"operator,omitempty" enum:",Exists,Equal"`
	Value             string `json:"value,omitempty"`
	Effect            string `json:"effect,omitempty" enum:",NoSchedule,PreferNoSchedule,NoExecute"`
	TolerationSeconds *int64 `json:"toleration_seconds,omitempty"`
}

// What an instance gets of what its type does not say.
const (
	DefaultCPU    = "1"
	DefaultMemory = "4Gi"
)

// BuiltinInstanceType is how the type of a compute without instance types is
// shown.
const BuiltinInstanceType = "defaultInstanceType"

// ClusterDefaultType is the name of the InstanceType of amlarc.azureml.com that
// is a cluster's default.
const ClusterDefaultType = "defaultinstancetype"

var (
	labelValueRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	// qualifiedRE is the name of a label, or of a resource.
	qualifiedRE = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	// quantityRE is the grammar of quantities in Kubernetes' API reference,
	// without the sign.
	quantityRE = regexp.MustCompile(`^([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$`)
	dnsNameRE  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
)

// CheckInstanceType says what is wrong with the name of an instance type, which
// becomes the value of a label.
func CheckInstanceType(name string) error {
	if len(name) > MaxLabel || !labelValueRE.MatchString(name) {
		return fmt.Errorf("%q is not an instance type's name: 1 to %d letters, digits, -, _ and ., starting and ending with a letter or digit", Cut(name, 80), MaxLabel)
	}
	return nil
}

// CheckQuantity says what is wrong with a quantity.
func CheckQuantity(text string) error {
	if len(text) > MaxQuantity || !quantityRE.MatchString(text) {
		return fmt.Errorf("%q is not a quantity, such as 2, 500m or 16Gi", Cut(text, 80))
	}
	return nil
}

// CheckResource says what is wrong with the name of a resource, such as cpu or
// nvidia.com/gpu.
func CheckResource(name string) error {
	if len(name) > 253+1+MaxLabel || !qualifiedRE.MatchString(name) {
		return fmt.Errorf("%q is not a resource's name, such as cpu, memory or nvidia.com/gpu", Cut(name, 80))
	}
	return nil
}

// CheckNodeLabel says what is wrong with a label that nodes are chosen by.
func CheckNodeLabel(key, value string) error {
	if !qualifiedRE.MatchString(key) || len(key) > 253+1+MaxLabel || len(value) > MaxLabel || value != "" && !labelValueRE.MatchString(value) {
		return fmt.Errorf("%q is not a label with its value", Cut(key+": "+value, 160))
	}
	return nil
}

// Validate returns every problem of the settings, joined; each names its field.
func (c *ComputeSettings) Validate() error {
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	bad("instance_types", c.checkDefault())
	for _, name := range slices.Sorted(maps.Keys(c.InstanceTypes)) {
		t := c.InstanceTypes[name]
		bad("instance_types", CheckInstanceType(name))
		bad("instance_types."+Cut(name, 80), t.validate())
	}
	if c.RunAsUser != nil && (*c.RunAsUser < 0 || *c.RunAsUser > 1<<31-1) {
		bad("run_as_user", fmt.Errorf("%d is not within 0 to %d", *c.RunAsUser, 1<<31-1))
	}
	if n := len(c.Tolerations); n > MaxSelectors {
		bad("tolerations", fmt.Errorf("%d, at most %d are allowed", n, MaxSelectors))
	}
	for _, t := range c.Tolerations {
		bad("tolerations", t.validate())
	}
	if n := len(c.ImagePullSecrets); n > MaxSelectors {
		bad("image_pull_secrets", fmt.Errorf("%d, at most %d are allowed", n, MaxSelectors))
	}
	for _, name := range c.ImagePullSecrets {
		if len(name) > 253 || !dnsNameRE.MatchString(name) {
			bad("image_pull_secrets", fmt.Errorf("%q is not the name of a Secret", Cut(name, 80)))
		}
	}
	if len(c.PriorityClass) > 253 || c.PriorityClass != "" && !dnsNameRE.MatchString(c.PriorityClass) {
		bad("priority_class", fmt.Errorf("%q is not the name of a PriorityClass", Cut(c.PriorityClass, 80)))
	}
	return errors.Join(errs...)
}

func (c *ComputeSettings) checkDefault() error {
	names := strings.Join(slices.Sorted(maps.Keys(c.InstanceTypes)), ", ")
	_, has := c.InstanceTypes[c.DefaultInstanceType]
	switch {
	case len(c.InstanceTypes) == 0 && c.DefaultInstanceType != "":
		return fmt.Errorf("there are none, and the default is %q", Cut(c.DefaultInstanceType, 80))
	case len(c.InstanceTypes) == 0 || has:
		return nil
	case c.DefaultInstanceType == "":
		return fmt.Errorf("no default; name one of %s", Cut(names, 400))
	}
	return fmt.Errorf("the default %q is none of %s", Cut(c.DefaultInstanceType, 80), Cut(names, 400))
}

func (t *InstanceType) validate() error {
	var errs []error
	if len(t.NodeSelector) > MaxSelectors {
		errs = append(errs, fmt.Errorf("node_selector: %d labels, at most %d are allowed", len(t.NodeSelector), MaxSelectors))
	}
	for key, value := range t.NodeSelector {
		if err := CheckNodeLabel(key, value); err != nil {
			errs = append(errs, fmt.Errorf("node_selector: %w", err))
		}
	}
	for _, of := range []struct {
		what   string
		amount map[string]string
	}{{"requests", t.Resources.Requests}, {"limits", t.Resources.Limits}} {
		if n := len(of.amount); n > MaxResources {
			errs = append(errs, fmt.Errorf("resources.%s: %d, at most %d are allowed", of.what, n, MaxResources))
		}
		for _, name := range slices.Sorted(maps.Keys(of.amount)) {
			err := errors.Join(CheckResource(name), CheckQuantity(of.amount[name]))
			if err != nil {
				errs = append(errs, fmt.Errorf("resources.%s: %s: %w", of.what, Cut(name, 80), err))
			}
		}
	}
	return errors.Join(errs...)
}

func (t *Toleration) validate() error {
	var errs []error
	if t.Key != "" && !qualifiedRE.MatchString(t.Key) || len(t.Key) > 253+1+MaxLabel {
		errs = append(errs, fmt.Errorf("key %q is not the key of a taint", Cut(t.Key, 80)))
	}
	switch t.Operator {
	case "Exists":
		if t.Value != "" {
			errs = append(errs, errors.New("operator Exists goes without a value"))
		}
	case "", "Equal":
		if t.Key == "" {
			errs = append(errs, errors.New("without a key the operator has to be Exists"))
		}
	default:
		errs = append(errs, fmt.Errorf("operator %q is neither Exists nor Equal", Cut(t.Operator, 80)))
	}
	if len(t.Value) > MaxLabel || t.Value != "" && !labelValueRE.MatchString(t.Value) {
		errs = append(errs, fmt.Errorf("value %q is not that of a taint", Cut(t.Value, 80)))
	}
	switch t.Effect {
	case "", "NoSchedule", "PreferNoSchedule", "NoExecute":
	default:
		errs = append(errs, fmt.Errorf("effect %q is none of NoSchedule, PreferNoSchedule, NoExecute", Cut(t.Effect, 80)))
	}
	return errors.Join(errs...)
}

// Type is the instance type of that name. The empty name is the default of a
// compute that names none: the cluster's own default, where it has one, else
// the built-in one.
func (c *ComputeSettings) Type(name string) (InstanceType, bool) {
	if name == "" && c.DefaultInstanceType == "" {
		return c.InstanceTypes[ClusterDefaultType], true
	}
	t, ok := c.InstanceTypes[name]
	return t, ok
}

// TypeNames lists the instance types, for people.
func (c *ComputeSettings) TypeNames() string {
	if len(c.InstanceTypes) == 0 {
		return "only the built-in one, which has no name to ask for"
	}
	return Cut(strings.Join(slices.Sorted(maps.Keys(c.InstanceTypes)), ", "), 400)
}

// Size is the bytes that the compute takes of an answer to a sync.
func (c *Compute) Size() int {
	b, err := json.Marshal(c)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return len(b)
}

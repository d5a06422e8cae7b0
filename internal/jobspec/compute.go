package jobspec

import (
	"fmt"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// ComputeSpec is the checked file of a compute. What the file does not say is
// empty.
type ComputeSpec struct {
	Name        string
	ResourceID  string
	Description string
	Namespace   string
	protocol.ComputeSettings
}

// ParseCompute reads the file of a compute, YAML or JSON; filename is for
// messages only. It takes the configuration file of 2021 in JSON
// (defaultInstanceType, instanceTypes by name), its form in YAML (instance_types
// as a list), and the compute of Azure ML's CLI v2. The error is an *Error with
// all the problems at once.
func ParseCompute(filename string, src []byte) (*ComputeSpec, error) {
	c := checker{file: source{name: filename}, compute: new(ComputeSpec)}
	file, bad := readSource(filename, src)
	c.file = file
	if bad != nil {
		return nil, newError([]Problem{*bad})
	}
	if root := c.tree(); root != nil {
		c.checkCompute(root)
	}
	if len(c.problems) > 0 {
		return nil, newError(c.problems)
	}
	return c.compute, nil
}

// what the file is, for messages.
func (c *checker) what() string {
	switch {
	case c.compute != nil:
		return "the file of a compute"
	case c.environment != nil:
		return "the file of an environment"
	}
	return "a job file"
}

// example is what such a file has.
func (c *checker) example() string {
	switch {
	case c.compute != nil:
		return "a compute's file has lines such as `namespace: train`"
	case c.environment != nil:
		return "an environment's file has lines such as `name: sklearn` and `image: registry/repository:tag`"
	}
	return "a job file has lines such as `command: python train.py`, environment and compute"
}

func (c *checker) checkCompute(root *node) {
	c.walk(root, "", computeFile)
	if len(c.problems) > 0 {
		return
	}
	// What has no rule above has one here: names, quantities and counts.
	if err := c.compute.Validate(); err != nil {
		for _, message := range strings.Split(err.Error(), "\n") {
			c.report(place{}, "", message, "")
		}
	}
}

var computeFile = schema{
	"$schema":               {read: func(*checker, *node, string) {}},
	"type":                  {read: readComputeType},
	"name":                  {read: intoCompute(func(s *ComputeSpec) *string { return &s.Name }, protocol.CheckCompute)},
	"resource_id":           {read: intoCompute(func(s *ComputeSpec) *string { return &s.ResourceID }, nil)},
	"description":           {read: intoCompute(func(s *ComputeSpec) *string { return &s.Description }, nil)},
	"namespace":             {read: intoCompute(func(s *ComputeSpec) *string { return &s.Namespace }, func(name string) error { return protocol.CheckLabel("namespace", name) })},
	"default_instance_type": {read: readDefaultType},
	"defaultInstanceType":   {read: readDefaultType},
	"instance_types":        {read: readTypes},
	"instanceTypes":         {read: readTypes},
	"priority_class":        {read: intoCompute(func(s *ComputeSpec) *string { return &s.PriorityClass }, nil)},
	"run_as_user":           {read: readUser},
	"image_pull_secrets":    {read: readPullSecrets},
	"tolerations":           {read: readTolerations},

	"location":   {hint: "remove the line: a compute is where its cluster is"},
	"tags":       {},
	"identity":   {hint: "remove it: jobs have no identity here, and pods no token"},
	"properties": {hint: "write its keys at the top: namespace, defaultInstanceType, instanceTypes"},

	"id":                  {readOnly: true},
	"created_on":          {readOnly: true},
	"provisioning_state":  {readOnly: true},
	"provisioning_errors": {readOnly: true},
}

func intoCompute(field func(*ComputeSpec) *string, check func(string) error) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		text, ok := c.text(n, key)
		if !ok {
			return
		}
		if check != nil {
			if err := check(text); err != nil {
				c.report(n.at, key, err.Error(), "")
			}
		}
		*field(c.compute) = text
	}
}

func readComputeType(c *checker, n *node, key string) {
	if text, ok := c.text(n, key); ok && !strings.EqualFold(text, "kubernetes") {
		c.report(n.at, key, fmt.Sprintf("computes of type %s are not supported", quote(text)), "a compute here is of type kubernetes")
	}
}

func readDefaultType(c *checker, n *node, key string) {
	if n.kind == nullKind {
		return
	}
	if text, ok := c.text(n, key); ok {
		c.compute.DefaultInstanceType = text
	}
}

// readTypes reads instance types by name, or a list of them with their names.
func readTypes(c *checker, n *node, key string) {
	if n.kind != listKind && !c.mapping(n, key) {
		return
	}
	if c.compute.InstanceTypes != nil {
		c.report(n.at, key, "instance types are given twice", "keep one of instance_types and instanceTypes")
		return
	}
	c.compute.InstanceTypes = map[string]protocol.InstanceType{}
	for _, e := range n.entries {
		c.instanceType(e.at, e.value, e.key, join(key, e.key))
	}
	for i, item := range n.items {
		dotted := fmt.Sprintf("%s[%d]", key, i)
		if item.kind != mappingKind {
			c.report(item.at, dotted, fmt.Sprintf("%s is %s; it must be a mapping with a name", dotted, item.kind), "")
			continue
		}
		name := item.find("name")
		if name == nil {
			c.report(item.at, dotted, dotted+" has no name", "add `name: NAME`")
			continue
		}
		if text, ok := c.text(name.value, join(dotted, "name")); ok {
			c.instanceType(name.value.at, item, text, dotted)
		}
	}
}

func (c *checker) instanceType(at place, n *node, name, key string) {
	if err := protocol.CheckInstanceType(name); err != nil {
		c.report(at, key, err.Error(), "")
		return
	}
	if _, twice := c.compute.InstanceTypes[name]; twice {
		c.report(at, key, fmt.Sprintf("instance type %s is given twice", quote(name)), "remove one of them")
		return
	}
	var t protocol.InstanceType
	if n.kind != nullKind && c.mapping(n, key) {
		c.walk(n, key, typeSchema(&t))
	}
	c.compute.InstanceTypes[name] = t
}

func typeSchema(t *protocol.InstanceType) schema {
	labels := rule{read: func(c *checker, n *node, key string) { t.NodeSelector = c.texts(n, key, protocol.MaxSelectors) }}
	return schema{
		"name":          {read: func(*checker, *node, string) {}}, // read before all others
		"node_selector": labels,
		"nodeSelector":  labels,
		"resources": {read: func(c *checker, n *node, key string) {
			if c.mapping(n, key) {
				c.walk(n, key, schema{
					"requests": {read: quantities(&t.Resources.Requests)},
					"limits":   {read: quantities(&t.Resources.Limits)},
				})
			}
		}},
	}
}

// quantities reads amounts of resources, written as numbers or as text. One that
// is null is as if it were not there.
func quantities(into *map[string]string) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		if !c.mapping(n, key) {
			return
		}
		amounts := map[string]string{}
		for _, e := range n.entries {
			dotted := join(key, e.key)
			if e.value.kind == nullKind {
				continue
			}
			text, ok := c.text(e.value, dotted)
			if !ok {
				continue
			}
			if err := protocol.CheckResource(e.key); err != nil {
				c.report(e.at, dotted, err.Error(), "")
			} else if err := protocol.CheckQuantity(text); err != nil {
				c.report(e.value.at, dotted, err.Error(), "")
			}
			amounts[e.key] = text
		}
		*into = amounts
	}
}

func readUser(c *checker, n *node, key string) {
	if value, ok := c.integer(n, key, 0, 1<<31-1); ok {
		c.compute.RunAsUser = &value
	}
}

// readPullSecrets reads names of Secrets, plain or as Kubernetes has them.
func readPullSecrets(c *checker, n *node, key string) {
	for i, item := range c.list(n, key) {
		dotted := fmt.Sprintf("%s[%d]", key, i)
		if item.kind == mappingKind && item.find("name") != nil {
			item = item.find("name").value
		}
		if text, ok := c.text(item, dotted); ok {
			c.compute.ImagePullSecrets = append(c.compute.ImagePullSecrets, text)
		}
	}
}

func readTolerations(c *checker, n *node, key string) {
	for i, item := range c.list(n, key) {
		dotted := fmt.Sprintf("%s[%d]", key, i)
		var t protocol.Toleration
		text := func(field *string) rule {
			return rule{read: func(c *checker, n *node, key string) {
				if text, ok := c.text(n, key); ok {
					*field = text
				}
			}}
		}
		seconds := rule{read: func(c *checker, n *node, key string) {
			if value, ok := c.integer(n, key, 0, 1<<31-1); ok {
				t.TolerationSeconds = &value
			}
		}}
		if c.mapping(item, dotted) {
			c.walk(item, dotted, schema{
				"key": text(&t.Key), "operator": text(&t.Operator), "value": text(&t.Value), "effect": text(&t.Effect),
				"toleration_seconds": seconds, "tolerationSeconds": seconds,
			})
			c.compute.Tolerations = append(c.compute.Tolerations, t)
		}
	}
}

// list says what is in a list; none at all counts as an empty one.
func (c *checker) list(n *node, key string) []*node {
	if n.kind != listKind && n.kind != nullKind && n.kind != brokenKind {
		c.report(n.at, key, fmt.Sprintf("%s is %s; it must be a list", key, n.kind), "")
	}
	return n.items
}

package jobspec

import (
	"fmt"
	"regexp"
	"strings"
)

// What job files of Azure ML looked like in 2021 is accepted, each with a note
// that says how it is written today.

// readOlderCompute reads the compute of 2021, which had a part of the resources.
func readOlderCompute(c *checker, n *node, key string) {
	c.older(n.at, key+" with keys of its own", "`compute: NAME`, beside `resources: {instance_count: N}`")
	c.walk(n, key, schema{
		"target":         {read: readCompute},
		"instance_count": {read: func(c *checker, n *node, key string) { c.once(n, key, "resources", "instance_count") }},
		"instance_type":  {read: func(c *checker, n *node, key string) { c.once(n, key, "resources", "instance_type") }},
	})
	if n.find("target") == nil {
		c.report(n.at, key, "compute has no target", "write `compute: NAME`")
	}
}

// once reads a value by the rule for where it belongs today, unless it is there, too.
func (c *checker) once(n *node, key, section, name string) {
	if today := c.root.find(section); today != nil && today.value.find(name) != nil {
		c.report(n.at, key, fmt.Sprintf("%s and %s.%s are both given", key, section, name), "keep "+section+"."+name)
		return
	}
	resources[name].read(c, n, key)
}

func (c *checker) older(at place, key, today string) {
	c.note(at, key, fmt.Sprintf("%s is the form of 2021, which still works", key), "today it is written "+today)
}

// olderEnvironment is the image of 2021, within docker.
func olderEnvironment(c *checker, n *node, key string) {
	c.older(n.at, key, "`environment: {image: …}`")
	if !c.mapping(n, key) {
		return
	}
	c.walk(n, key, schema{"image": {read: readImage}, "build": {hint: buildHint}})
	if n.find("image") == nil {
		c.report(n.at, key, key+" has no image", "add `environment: {image: NAME}`")
	}
}

var olderInput = regexp.MustCompile(`\{inputs\.([a-zA-Z_][a-zA-Z0-9_]*)\}`)

// olderInputs writes the expressions {inputs.x} of 2021 as they are written
// today, where x is an input: in a command without any of today's, for there they
// are plain text. Behind a $ they are the shell's.
func (c *checker) olderInputs(n *node, key, text string) string {
	if !strings.Contains(text, "{inputs.") || strings.Contains(text, exprOpen) {
		return text
	}
	var b strings.Builder
	last := 0
	for _, m := range olderInput.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		if _, defined := c.spec.Job.Inputs[name]; !defined && !c.absent[name] || m[0] > 0 && strings.ContainsRune("${", rune(text[m[0]-1])) {
			continue
		}
		if last == 0 {
			c.older(n.at, key+" with "+text[m[0]:m[1]], "${{inputs."+name+"}}")
		}
		b.WriteString(text[last:m[0]] + exprOpen + "inputs." + name + exprClose)
		last = m[1]
	}
	return b.String() + text[last:]
}

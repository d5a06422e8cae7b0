package jobspec

import (
	"fmt"
	"strconv"
	"strings"
)

// checker collects what is wrong with one file.
type checker struct {
	file source
	opts Options
	spec Spec
	// One of these is set where the file is no job's.
	compute     *ComputeSpec
	environment *EnvironmentSpec
	problems    []Problem
	notes       []Problem
	root        *node           // of the file
	absent      map[string]bool // inputs without a value
}

// report adds a problem. It says nothing more once a hostile file has filled
// the list.
func (c *checker) report(at place, key, message, hint string) {
	if len(c.problems) >= 20*maxProblems {
		return
	}
	c.problems = append(c.problems, Problem{
		File: c.file.name, Line: at.line, Column: at.column, Source: c.file.line(at.line),
		Argument: at.arg, Key: key, Message: message, Hint: hint,
	})
}

// note adds something to be told that is no problem.
func (c *checker) note(at place, key, message, hint string) {
	if len(c.notes) >= maxProblems {
		return
	}
	c.notes = append(c.notes, Problem{
		File: c.file.name, Line: at.line, Column: at.column, Source: c.file.line(at.line),
		Argument: at.arg, Key: key, Message: message, Hint: hint,
	})
}

// check reads the job from root.
func (c *checker) check(root *node) {
	c.root = root
	if t := root.find("type"); t != nil && !c.isCommand(t) {
		return // the keys of another type of job would only add noise
	}
	c.strayed(root, "")
	c.walk(root, "", commandJob)
	c.command(root)
	for _, required := range []struct{ key, hint string }{
		{"command", "add `command: python train.py`, or what else is to run"},
		{"environment", "add `environment: IMAGE`, the image that the command runs in"},
		{"compute", "add `compute: NAME`; `trainrelay compute list` shows the names"},
	} {
		if root.find(required.key) == nil {
			c.report(place{}, required.key, required.key+" is missing", required.hint)
		}
	}
	c.unused()
	job := &c.spec.Job
	if job.Name == "" && root.find("name") == nil {
		job.Name = newName()
	}
	if job.Instances == 0 {
		job.Instances = 1
	}
	if len(c.problems) > 0 {
		return
	}
	// What has no rule above has one here: sizes, and counts of entries.
	whole := *job
	if c.spec.Environment != nil {
		whole.Image = "its/image" // only the relay knows it
	}
	if err := whole.Validate(); err != nil {
		for _, message := range strings.Split(err.Error(), "\n") {
			c.report(place{}, "", message, "")
		}
	}
}

func (c *checker) isCommand(t *entry) bool {
	types := []string{"command", "sweep", "pipeline", "automl", "spark", "parallel", "import", "data_transfer"}
	text, ok := c.text(t.value, "type")
	switch {
	case !ok:
	case text == "command":
		return true
	case text == "command_job":
		c.older(t.value.at, "type: command_job", "`type: command`")
		return true
	default:
		for _, known := range types {
			if text == known {
				c.report(t.value.at, "type", fmt.Sprintf("jobs of type %s are not supported yet", text), "this version runs jobs of type command")
				return false
			}
		}
		hint := "this version runs jobs of type command"
		if near := closest(text, types); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		c.report(t.value.at, "type", fmt.Sprintf("unknown type of job %s", quote(text)), hint)
	}
	return false
}

// walk reads each entry of a mapping by the schema's rule for its key.
func (c *checker) walk(n *node, parent string, keys schema) {
	for _, e := range n.entries {
		dotted := join(parent, e.key)
		rule, known := keys[e.key]
		switch {
		case known && rule.read != nil:
			if e.value.kind != brokenKind {
				rule.read(c, e.value, dotted)
			}
		case known && rule.readOnly:
			c.report(e.at, dotted, fmt.Sprintf("%s is read-only: the relay sets it", quote(dotted)), "remove the line")
		case known:
			c.report(e.at, dotted, fmt.Sprintf("%s is not supported yet", quote(dotted)), rule.hint)
		default:
			hint := "known here are " + strings.Join(keys.supported(), ", ")
			if near := closest(e.key, sorted(keys)); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			c.report(e.at, dotted, fmt.Sprintf("unknown key %s", quote(dotted)), hint)
		}
	}
}

// command resolves the command, once all inputs are known.
func (c *checker) command(root *node) {
	e := root.find("command")
	if e == nil {
		return
	}
	text, ok := c.text(e.value, "command")
	if !ok {
		return
	}
	if strings.TrimSpace(text) == "" {
		c.report(e.value.at, "command", "command is empty", "")
	}
	c.spec.Job.Command = c.resolve(e.value, "command", c.olderInputs(e.value, "command", e.value.text))
	if strings.ContainsRune(c.spec.Job.Command, 0) {
		c.report(e.value.at, "command", "command contains a NUL character", "")
	}
}

// text reads a scalar as its text. The problem is reported where it is not ok.
func (c *checker) text(n *node, key string) (string, bool) {
	switch {
	case n.kind == brokenKind:
		return "", false
	case n.kind == nullKind:
		c.report(n.at, key, key+" has no value", "give it one, or remove the line")
		return "", false
	case !n.scalar():
		c.report(n.at, key, fmt.Sprintf("%s is %s; it must be a single value", key, n.kind), "")
		return "", false
	}
	return n.text, true
}

// mapping says whether n is a mapping; none at all counts as an empty one.
func (c *checker) mapping(n *node, key string) bool {
	if n.kind == mappingKind || n.kind == nullKind {
		return true
	}
	c.report(n.at, key, fmt.Sprintf("%s is %s; it must be a mapping of keys", key, n.kind), "")
	return false
}

// integer reads a whole number within bounds.
func (c *checker) integer(n *node, key string, low, high int64) (int64, bool) {
	text, ok := c.text(n, key)
	if !ok {
		return 0, false
	}
	value, err := strconv.ParseInt(text, 0, 64)
	hint := ""
	if n.kind != intKind && err == nil {
		hint = "remove the quotes"
	}
	if n.kind != intKind || err != nil {
		c.report(n.at, key, fmt.Sprintf("%s is %s, %s; it must be an integer", key, quote(text), n.kind), hint)
		return 0, false
	}
	if value < low || value > high {
		c.report(n.at, key, fmt.Sprintf("%s is %d; it must be within %d to %d", key, value, low, high), "")
		return 0, false
	}
	return value, true
}

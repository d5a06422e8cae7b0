package jobspec

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// override applies one argument of the form "key.key=value" to root. shown is
// how messages name the argument.
func (c *checker) override(root *node, shown, arg string) {
	at := place{arg: shown}
	path, text, ok := strings.Cut(arg, "=")
	keys := strings.Split(path, ".")
	for i, key := range keys {
		keys[i] = strings.TrimSpace(key)
		if keys[i] == "" {
			ok = false
		}
	}
	if !ok || len(keys) > maxDepth {
		c.report(at, "", "is not of the form key=value", "for example --set inputs.epochs=3")
		return
	}
	if problem := forbiddenIn(text); problem != "" {
		c.report(at, path, problem, "")
		return
	}
	if list := root.set(keys, scalarOf(text, at)); list != "" {
		c.report(at, path, fmt.Sprintf("%s is a list; --set cannot reach into it", list), "")
	}
}

func forbiddenIn(text string) string {
	for i, r := range text {
		if problem := forbidden(r, text[i:]); problem != "" && r != '\n' {
			return problem
		}
	}
	return ""
}

// scalarOf reads text as a YAML scalar. What YAML would read as something
// else, as "a: b" or "[1", is the string itself.
func scalarOf(text string, at place) *node {
	n := &node{kind: stringKind, text: text, at: at}
	file, err := parseYAML(text)
	if err != nil || len(text) > MaxSize || len(file.Docs) != 1 {
		return n
	}
	switch body := file.Docs[0].Body.(type) {
	case *ast.BoolNode:
		n.kind = boolKind
	case *ast.IntegerNode:
		n.kind = intKind
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.kind = floatKind
	case *ast.StringNode: // perhaps quoted
		n.text = body.Value
	}
	return n
}

// set puts value at the end of the path of keys, making mappings on the way
// also of scalars, so that environment.image replaces an environment that is a
// string. Where a list is in the way it returns that key.
func (n *node) set(keys []string, value *node) (list string) {
	for i, key := range keys {
		e := n.find(key)
		if e == nil {
			e = &entry{key: key, at: value.at, value: &node{kind: nullKind, at: value.at}}
			n.entries = append(n.entries, e)
		}
		if i == len(keys)-1 {
			e.at, e.value = value.at, value
			return ""
		}
		if e.value.kind == listKind {
			return strings.Join(keys[:i+1], ".")
		}
		if e.value.kind != mappingKind {
			e.value = &node{kind: mappingKind, at: value.at}
		}
		n = e.value
	}
	return ""
}

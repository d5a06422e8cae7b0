package jobspec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of what the YAML parser is given: its time grows with the square of
// the tokens, its stack with the depth.
const (
	maxTokens = 20_000
	maxDepth  = 30
)

// kind is what a node is, in the words of messages.
type kind string

const (
	nullKind    kind = "null"
	boolKind    kind = "a boolean"
	intKind     kind = "an integer"
	floatKind   kind = "a number"
	stringKind  kind = "a string"
	listKind    kind = "a list"
	mappingKind kind = "a mapping"
	// brokenKind is what was reported already: nothing more is said of it.
	brokenKind kind = "broken"
)

// place is where something was written: in the file, or in an argument.
type place struct {
	line, column int
	arg          string
}

// node is a YAML value with its place.
type node struct {
	kind    kind
	text    string // of a scalar, as written
	at      place
	block   bool // a block scalar, which begins on the line after at
	entries []*entry
	items   []*node // of a list
}

// entry is one key of a mapping.
type entry struct {
	key   string
	at    place
	value *node
}

func (n *node) scalar() bool { return n.kind != listKind && n.kind != mappingKind }

// tree parses the file to its one mapping, or reports why not.
func (c *checker) tree() *node {
	file, err := parseYAML(c.file.text)
	if err != nil {
		c.syntaxError(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); directive || doc.Body == nil {
			continue
		}
		if body != nil {
			at := place{line: doc.Body.GetToken().Position.Line, column: 1}
			c.report(at, "", "a second YAML document; "+c.what()+" has one", "put each into its own file")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		c.report(place{}, "", "is empty", c.example())
		return nil
	}
	root := c.convert(body, "")
	if root.kind != mappingKind {
		c.report(root.at, "", fmt.Sprintf("is %s, not a mapping of keys", root.kind), c.example())
		return nil
	}
	return root
}

// parseYAML guards the parser against its worst cases.
func parseYAML(text string) (file *ast.File, err error) {
	tokens := lexer.Tokenize(text)
	if len(tokens) > maxTokens {
		return nil, fmt.Errorf("has more than %d YAML tokens", maxTokens)
	}
	if deep := tooDeep(tokens); deep != nil {
		return nil, &yaml.SyntaxError{Message: fmt.Sprintf("nested more than %d deep", maxDepth), Token: deep}
	}
	// A parser that meets strangers' files has had panics; one more of them
	// must not end the program.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// tooDeep returns the token at which the nesting passes maxDepth: of brackets,
// or of what can nest many times within one line.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, line, marks := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, marks = t.Position.Line, 0
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			if marks++; t.Position.Column > 4*maxDepth { // deep by way of many lines
				return t
			}
		}
		if brackets > maxDepth || marks > maxDepth {
			return t
		}
	}
	return nil
}

func (c *checker) syntaxError(err error) {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		c.report(place{}, "", err.Error(), "")
		return
	}
	message, hint := located.GetMessage(), ""
	switch {
	case strings.Contains(message, "'\t'"):
		message, hint = "a tab where YAML wants spaces", "indent with spaces"
	case strings.Contains(message, "mapping value is not allowed"):
		hint = `a value with ": " in it needs quotes, or | and a new line`
	case strings.Contains(message, "reserved character"), strings.Contains(message, "directive"):
		hint = "put the value in quotes"
	}
	c.report(at(located.GetToken()), "", "not YAML: "+message, hint)
}

func at(t *token.Token) place {
	return place{line: t.Position.Line, column: max(t.Position.Column, 1)}
}

// convert makes nodes of the parser's, reporting what a job file may not use.
func (c *checker) convert(n ast.Node, key string) *node {
	out := &node{at: at(n.GetToken()), text: n.GetToken().Value}
	switch n := n.(type) {
	case *ast.NullNode:
		out.kind = nullKind
	case *ast.BoolNode:
		out.kind = boolKind
	case *ast.IntegerNode:
		out.kind = intKind
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind = floatKind
	case *ast.StringNode:
		out.kind = stringKind
	case *ast.LiteralNode:
		out.kind, out.block, out.text = stringKind, true, n.Value.Value
	case *ast.SequenceNode:
		out.kind = listKind
		for _, value := range n.Values {
			out.items = append(out.items, c.convert(value, key))
		}
	case *ast.MappingNode:
		out.kind = mappingKind
		if !n.IsFlowStyle && len(n.Values) > 0 {
			out.at = at(n.Values[0].Key.GetToken())
		}
		c.entries(out, n.Values, key)
	case *ast.MappingValueNode:
		out.kind, out.at = mappingKind, at(n.Key.GetToken())
		c.entries(out, []*ast.MappingValueNode{n}, key)
	case *ast.TagNode:
		return c.tagged(n, key)
	case *ast.AnchorNode, *ast.AliasNode:
		out.kind = brokenKind
		c.report(out.at, key, "YAML anchors and aliases are not supported", "write the value out")
	default:
		out.kind = brokenKind
		c.report(out.at, key, fmt.Sprintf("YAML's %s is not supported here", strings.ToLower(n.Type().String())), "")
	}
	return out
}

func (c *checker) tagged(n *ast.TagNode, key string) *node {
	tag := n.GetToken().Value
	if tag == "!!str" && n.Value != nil {
		if value := c.convert(n.Value, key); value.scalar() {
			value.kind = stringKind
			return value
		}
	}
	c.report(at(n.GetToken()), key, fmt.Sprintf("the YAML tag %s is not supported", tag), "write the value without it")
	return &node{kind: brokenKind, at: at(n.GetToken())}
}

func (c *checker) entries(out *node, values []*ast.MappingValueNode, parent string) {
	for _, v := range values {
		t := v.Key.GetToken()
		switch v.Key.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		case *ast.MergeKeyNode:
			c.report(at(t), parent, "YAML merge keys are not supported", "write the keys out")
			continue
		default:
			c.report(at(t), parent, "the key is not plain text", "write it as `key: value`")
			continue
		}
		e := &entry{key: t.Value, at: at(t)}
		if earlier := out.find(e.key); earlier != nil {
			c.report(e.at, join(parent, e.key), fmt.Sprintf("%s is given twice, first in line %d", quote(e.key), earlier.at.line), "remove one of them")
			continue
		}
		e.value = c.convert(v.Value, join(parent, e.key))
		if e.value.scalar() {
			e.value.at = c.beside(at(v.Start), e.value.at)
		}
		out.entries = append(out.entries, e)
	}
}

// beside corrects the place of a scalar: the parser's is off for plain text of
// several lines. It is right after the colon where anything is there.
func (c *checker) beside(colon, parsed place) place {
	line := []rune(c.file.line(colon.line))
	for i := colon.column; i < len(line) && line[i] != '#'; i++ {
		if line[i] != ' ' && line[i] != '\t' {
			return place{line: colon.line, column: i + 1}
		}
	}
	return parsed
}

// find returns the entry of a key, or nil.
func (n *node) find(key string) *entry {
	for _, e := range n.entries {
		if e.key == key {
			return e
		}
	}
	return nil
}

// join makes a dotted key.
func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// quote shows a stranger's word, shortened.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

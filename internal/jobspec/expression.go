package jobspec

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// Markers that begin what Azure ML resolves within a text.
const (
	exprOpen  = "${{"
	exprClose = "}}"
	groupOpen = "$[["
)

// segment is a run of a text: literal, or one expression.
type segment struct {
	literal string
	// marker is exprOpen or groupOpen, empty for a literal.
	marker string
	// body is the expression without its brackets and spaces.
	body string
	// nth counts the markers of the text, from 0.
	nth int
	// open says that the closing brackets are missing.
	open bool
}

// scan cuts a text into segments. An expression ends at its first closing
// brackets; an optional group $[[ … ]] is only marked, its inside is scanned
// on as text.
func scan(text string) []segment {
	var out []segment
	for nth := 0; ; nth++ {
		i := nextMarker(text)
		if i < 0 {
			return append(out, segment{literal: text})
		}
		out = append(out, segment{literal: text[:i]})
		marker := text[i : i+len(exprOpen)]
		s := segment{marker: marker, nth: nth}
		text = text[i+len(marker):]
		if marker == exprOpen {
			within := text
			if next := nextMarker(text); next >= 0 {
				within = text[:next]
			}
			end := strings.Index(within, exprClose)
			if s.open = end < 0; !s.open {
				s.body = strings.TrimSpace(text[:end])
				text = text[end+len(exprClose):]
			}
		}
		out = append(out, s)
	}
}

// nextMarker is the index of the first marker in text, or -1.
func nextMarker(text string) int {
	for from := 0; ; {
		i := strings.IndexByte(text[from:], '$')
		if i < 0 {
			return -1
		}
		from += i
		if rest := text[from:]; strings.HasPrefix(rest, exprOpen) || strings.HasPrefix(rest, groupOpen) {
			return from
		}
		from++
	}
}

// kinds are the first words of Azure ML's expressions.
var kinds = []string{"secrets", "inputs", "outputs", "search_space", "parent", "default_datastore", "name", "output_name"}

var inputRE = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// resolve replaces the expressions of the text that n has under key by the
// values of the inputs, and reports those that it cannot. It gives up on a text
// that is too large for a job, or would become so.
func (c *checker) resolve(n *node, key string, inputs map[string]string) string {
	var b strings.Builder
	reported := 0
	for _, s := range scan(n.text) {
		if max(b.Len(), len(n.text)) > protocol.MaxJobSpec {
			c.report(n.at, key, fmt.Sprintf("%s is too large; a whole job has at most %d bytes", key, protocol.MaxJobSpec), "put large values into files of the code")
			return ""
		}
		if reported > maxProblems {
			return ""
		}
		if s.marker == "" {
			b.WriteString(s.literal)
			continue
		}
		if secret(s) != "" {
			continue // was reported as strayed
		}
		value, message, hint := evaluate(s, inputs)
		if message != "" {
			c.report(c.marker(n, s.nth), key, message, hint)
			reported++
		}
		b.WriteString(value)
	}
	return b.String()
}

// evaluate returns the value of an expression, or what is wrong with it.
func evaluate(s segment, inputs map[string]string) (value, message, hint string) {
	const form = "write ${{inputs.NAME}}"
	shown := quote("${{" + s.body + "}}")
	word, name, dotted := strings.Cut(s.body, ".")
	switch {
	case s.marker == groupOpen:
		return "", "optional groups $[[ … ]] are not supported yet", "write what is inside them plainly"
	case s.open:
		return "", "an expression ${{ without its }}", form
	case s.body == "":
		return "", "an empty expression", form
	case word == "inputs" && dotted:
		if value, ok := inputs[name]; ok {
			return value, "", ""
		}
		if !inputRE.MatchString(name) {
			return "", fmt.Sprintf("%s is not an expression", shown), form + "; a name has letters, digits and _"
		}
		return "", fmt.Sprintf("input %s is not defined", quote(name)), defined(name, inputs)
	case word == "inputs":
		return "", fmt.Sprintf("%s names no input", shown), form
	}
	for _, kind := range kinds {
		if word == kind {
			return "", fmt.Sprintf("%s: expressions on %s are not supported yet", shown, word), ""
		}
	}
	if near := closest(word, kinds); near != "" {
		return "", fmt.Sprintf("unknown expression %s", shown), fmt.Sprintf("did you mean %q?", near)
	}
	return "", fmt.Sprintf("unknown expression %s", shown), form
}

// defined is the hint for an input that is not.
func defined(name string, inputs map[string]string) string {
	if len(inputs) == 0 {
		return "the job defines no inputs; add it under inputs:"
	}
	names := sorted(inputs)
	hint := "defined are " + strings.Join(names, ", ")
	if near := closest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q? ", near) + hint
	}
	return hint
}

// plain reports expressions in a text where they would not be resolved.
func (c *checker) plain(n *node, key string) {
	for _, s := range scan(n.text) {
		if s.marker == exprOpen && secret(s) == "" {
			c.report(c.marker(n, s.nth), key, fmt.Sprintf("an expression in %s is not supported yet", key),
				"expressions are resolved in command only")
			return
		}
	}
}

// marker is the place of the nth marker of a text.
func (c *checker) marker(n *node, nth int) place {
	if n.at.arg != "" {
		return n.at
	}
	from := n.at
	if n.block {
		from = place{line: n.at.line + 1, column: 1}
	}
	found := c.file.find(from, nth)
	if found == from {
		return n.at
	}
	return found
}

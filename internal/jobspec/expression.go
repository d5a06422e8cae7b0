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

	groupClose = "]]"
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

// resolve replaces the expressions of the text, which n has under key, by the
// values of the inputs, and reports those that it cannot. Of an optional group
// $[[ … ]] its inside is left, or nothing where an input within has no value. It
// gives up on a text that is too large for a job, or would become so.
func (c *checker) resolve(n *node, key, text string) string {
	var b strings.Builder
	var g *group
	reported := 0
	bad := func(nth int, message, hint string) {
		c.report(c.marker(n, nth), key, message, hint)
		reported++
	}
	for _, s := range scan(text) {
		if max(b.Len(), len(text)) > protocol.MaxJobSpec || g != nil && g.text.Len() > protocol.MaxJobSpec {
			c.report(n.at, key, fmt.Sprintf("%s is too large; a whole job has at most %d bytes", key, protocol.MaxJobSpec), "put large values into files of the code")
			return ""
		}
		if reported > maxProblems {
			return ""
		}
		switch {
		case s.marker == groupOpen && g != nil:
			bad(s.nth, "an optional group $[[ within another one", "end the one before with ]]")
		case s.marker == groupOpen:
			g = &group{nth: s.nth}
		case s.marker == "" && g != nil:
			inside, after, closed := strings.Cut(s.literal, groupClose)
			g.text.WriteString(inside)
			if closed {
				if !g.dropped {
					b.WriteString(g.text.String())
				}
				g = nil
				b.WriteString(after)
			}
		case s.marker == "":
			b.WriteString(s.literal)
		case secret(s) != "": // was reported as strayed
		default:
			value, absent, message, hint := c.evaluate(s)
			switch {
			case message != "":
				bad(s.nth, message, hint)
			case g != nil:
				g.dropped = g.dropped || absent
				g.text.WriteString(value)
			case absent:
				bad(s.nth, fmt.Sprintf("%s has no value", quote("${{"+s.body+"}}")), "give the input one, or write $[[ … ]] around what is to be left out without it")
			default:
				b.WriteString(value)
			}
		}
	}
	if g != nil {
		bad(g.nth, "an optional group $[[ without its ]]", "end it with ]]")
	}
	return b.String()
}

// group is an optional group while it is read.
type group struct {
	nth     int // of its marker
	text    strings.Builder
	dropped bool // an input within has no value
}

// evaluate returns the value of an expression, that it is an input without one,
// or what is wrong with it.
func (c *checker) evaluate(s segment) (value string, absent bool, message, hint string) {
	inputs := c.spec.Job.Inputs
	const form = "write ${{inputs.NAME}}"
	shown := quote("${{" + s.body + "}}")
	word, name, dotted := strings.Cut(s.body, ".")
	switch {
	case s.open:
		return "", false, "an expression ${{ without its }}", form
	case s.body == "":
		return "", false, "an empty expression", form
	case word == "inputs" && dotted:
		if c.absent[name] {
			return "", true, "", ""
		}
		if value, ok := inputs[name]; ok {
			return value, false, "", ""
		}
		if !inputRE.MatchString(name) {
			return "", false, fmt.Sprintf("%s is not an expression", shown), form + "; a name has letters, digits and _"
		}
		return "", false, fmt.Sprintf("input %s is not defined", quote(name)), defined(name, inputs)
	case word == "inputs":
		return "", false, fmt.Sprintf("%s names no input", shown), form
	}
	for _, kind := range kinds {
		if word == kind {
			return "", false, fmt.Sprintf("%s: expressions on %s are not supported yet", shown, word), ""
		}
	}
	if near := closest(word, kinds); near != "" {
		return "", false, fmt.Sprintf("unknown expression %s", shown), fmt.Sprintf("did you mean %q?", near)
	}
	return "", false, fmt.Sprintf("unknown expression %s", shown), form
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

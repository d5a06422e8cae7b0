package jobspec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// maxProblems bounds what is told of one file.
const maxProblems = 50

// Problem is one thing that is wrong with a job file.
type Problem struct {
	File string
	// Line and Column count from 1, Column in characters; 0 where the problem
	// has no place in the file.
	Line, Column int
	// Source is the line itself.
	Source string
	// Argument is what the user gave on the command line, where that, not the
	// file, is wrong.
	Argument string
	// Key is the dotted key that is wrong; empty for the file as a whole.
	Key     string
	Message string
	// Hint says what to do; may be empty.
	Hint string
}

// Error holds all problems of a job file, in the order of its lines.
type Error struct {
	Problems []Problem
	// More counts the problems beyond those listed.
	More int
}

func newError(problems []Problem) *Error {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	e := &Error{Problems: problems}
	if n := len(problems); n > maxProblems {
		e.Problems, e.More = problems[:maxProblems], n-maxProblems
	}
	return e
}

// Error renders all problems, without colour.
func (e *Error) Error() string { return e.Render(false) }

// Render shows each problem as place and message, the line with a caret, and
// the hint. Problems are parted by empty lines; no newline ends the text.
func (e *Error) Render(colour bool) string {
	bold, red, blue, reset := "\x1b[1m", "\x1b[31m", "\x1b[34m", "\x1b[0m"
	if !colour {
		bold, red, blue, reset = "", "", "", ""
	}
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("\n\n")
		}
		fmt.Fprintf(&b, "%s%s:%s %s", bold, p.place(), reset, printable(p.Message))
		if p.Line > 0 && p.Source != "" {
			line, caret := excerpt(p.Source, p.Column)
			number := fmt.Sprintf("%5d", p.Line)
			fmt.Fprintf(&b, "\n%s%s |%s %s", blue, number, reset, line)
			fmt.Fprintf(&b, "\n%s%*s |%s %s%s^%s", blue, len(number), "", reset, strings.Repeat(" ", caret), red, reset)
		}
		if p.Hint != "" {
			fmt.Fprintf(&b, "\n  hint: %s", printable(p.Hint))
		}
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n\nand %d more", e.More)
	}
	return b.String()
}

// OneLine is the place, the problem and the hint on one line.
func (p *Problem) OneLine() string {
	text := p.place() + ": " + p.Message
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	return printable(text)
}

func (p *Problem) place() string {
	switch {
	case p.Argument != "":
		return printable(p.Argument)
	case p.Line > 0:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
	return p.File
}

// excerpt is the part of a line that fits a terminal, and where in it the
// column (from 1) is, from 0.
func excerpt(line string, column int) (string, int) {
	const width = 100
	text := []rune(printable(line))
	caret := min(max(column-1, 0), len(text))
	if len(text) <= width {
		return string(text), caret
	}
	from := max(0, min(caret-width/2, len(text)-width))
	part := string(text[from:min(len(text), from+width)])
	if from > 0 {
		part, caret = "…"+part, caret+1
	}
	if from+width < len(text) {
		part += "…"
	}
	return part, caret - from
}

// printable keeps a stranger's text from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, s)
}

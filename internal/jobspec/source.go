package jobspec

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds a job file, in bytes.
const MaxSize = 1 << 20

// source is the text of a job file with \n as the only end of line.
type source struct {
	name  string
	text  string
	lines []string
}

// readSource checks that src is text at all.
func readSource(name string, src []byte) (source, *Problem) {
	file := source{name: name}
	if len(src) > MaxSize {
		return file, &Problem{File: name, Message: fmt.Sprintf("is %d bytes; a job file has at most %d", len(src), MaxSize),
			Hint: "put large values into files of the code"}
	}
	if bytes.HasPrefix(src, []byte("\xff\xfe")) || bytes.HasPrefix(src, []byte("\xfe\xff")) {
		return file, &Problem{File: name, Message: "is UTF-16", Hint: "save it as UTF-8"}
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(src))
	file.text, file.lines = text, strings.Split(text, "\n")
	for i, line := range file.lines {
		column := 1
		for at, r := range line {
			if message := forbidden(r, line[at:]); message != "" {
				return file, &Problem{File: name, Line: i + 1, Column: column, Source: line, Message: message,
					Hint: "save the file as plain UTF-8 text"}
			}
			column++
		}
	}
	return file, nil
}

// forbidden says why r, the first rune of rest, may not be in a file.
func forbidden(r rune, rest string) string {
	if r == utf8.RuneError {
		if _, size := utf8.DecodeRuneInString(rest); size == 1 {
			return fmt.Sprintf("is not UTF-8: byte 0x%02x", rest[0])
		}
	}
	if r < ' ' && r != '\t' || 0x7f <= r && r < 0xa0 && r != 0x85 {
		return fmt.Sprintf("control character U+%04X", r)
	}
	return ""
}

// line returns line n, from 1, or nothing.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// find returns the place of the nth (from 0) marker at or after at, or at
// itself where there is none.
func (s *source) find(at place, nth int) place {
	for n := max(at.line, 1); n <= len(s.lines); n++ {
		line, skipped := s.lines[n-1], 0
		if n == at.line {
			for i := 1; i < at.column && skipped < len(line); i++ {
				_, size := utf8.DecodeRuneInString(line[skipped:])
				skipped += size
			}
		}
		for i := nextMarker(line[skipped:]); i >= 0; i = nextMarker(line[skipped:]) {
			if nth == 0 {
				return place{line: n, column: utf8.RuneCountInString(line[:skipped+i]) + 1}
			}
			nth--
			skipped += i + 1
		}
	}
	return at
}

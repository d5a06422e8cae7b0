package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	target   = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.* ## `) // as make help finds them
	code     = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
	makeCall = regexp.MustCompile(`\bmake (?:-\w+ )*([a-z][a-z0-9-]*)`)
	link     = regexp.MustCompile(`\]\(([^)#\s]+)`)
)

// TestPapers: the documents name only make targets and files that exist.
func TestPapers(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, match := range target.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, match[1])
	}
	checked := 0
	files(t, func(name string) {
		if filepath.Ext(name) != ".md" {
			return
		}
		checked++
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		shown := strings.Join(code.FindAllString(string(text), -1), "\n")
		for _, match := range makeCall.FindAllStringSubmatch(shown, -1) {
			if !slices.Contains(targets, match[1]) {
				t.Errorf("%s: make help knows no %s", name, match[1])
			}
		}
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), match[1])); err != nil {
				t.Errorf("%s links to what is not there: %v", name, err)
			}
		}
	})
	if checked < 3 {
		t.Errorf("only %d documents found", checked)
	}
}

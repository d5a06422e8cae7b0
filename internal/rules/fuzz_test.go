package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// TestCorpora: each fuzz target begins with inputs that are committed beside it,
// and no inputs are left that belong to no target.
func TestCorpora(t *testing.T) {
	wanted := make(map[string]bool)
	kept := make(map[string]bool)
	files(t, func(name string) {
		if dir := filepath.Dir(name); filepath.Base(filepath.Dir(dir)) == "fuzz" {
			kept[dir] = true
		}
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range fuzzTarget.FindAllStringSubmatch(string(text), -1) {
			wanted[filepath.Join(filepath.Dir(name), "testdata", "fuzz", match[1])] = true
		}
	})
	for dir := range wanted {
		if !kept[dir] {
			t.Errorf("%s has no input", dir)
		}
	}
	for dir := range kept {
		if !wanted[dir] {
			t.Errorf("%s belongs to no fuzz target", dir)
		}
	}
	if len(wanted) < 20 {
		t.Errorf("only %d fuzz targets found", len(wanted))
	}
}

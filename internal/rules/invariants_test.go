package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesRealTests: a test that ARCHITECTURE.md names is there.
func TestArchitectureNamesRealTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	files(t, func(name string) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(source)
	})
	named := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1)
	if len(named) == 0 {
		t.Error("ARCHITECTURE.md names no test")
	}
	for _, name := range named {
		if !strings.Contains(tests.String(), "func "+name+"(") {
			t.Errorf("ARCHITECTURE.md names %s, which no file has", name)
		}
	}
}

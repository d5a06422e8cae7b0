package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsNameRealTests: a test that ARCHITECTURE.md or SECURITY.md names
// is there.
func TestDocumentsNameRealTests(t *testing.T) {
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
	for _, document := range []string{"ARCHITECTURE.md", "SECURITY.md"} {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", document)
		}
		for _, name := range named {
			if !strings.Contains(tests.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which no file has", document, name)
			}
		}
	}
}

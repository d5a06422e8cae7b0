// Package rules has no code but tests: they keep the rules of this repository
// that a compiler does not. Each failure names the file and the rule it breaks;
// CONTRIBUTING.md has the reasons.
package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/trainrelay/trainrelay"

// root is the top of the repository, of both modules.
const root = "../.."

// goFile is a Go file of the repository.
type goFile struct {
	name  string // path from the root, with slashes
	dir   string // its folder, likewise
	test  bool
	lines int
	*ast.File
}

// imports lists what the file imports; what is ours as a path from the root
// that begins with "./".
func (f goFile) imports() []string {
	var all []string
	for _, spec := range f.Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		if rest, ours := strings.CutPrefix(name, module); ours {
			name = "." + rest
		}
		all = append(all, name)
	}
	return all
}

// files calls visit with the path of each file that belongs to the repository.
func files(t *testing.T, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch base := entry.Name(); {
		case !entry.IsDir():
			visit(name)
		case name == "bin", name == "dist", base != "." && base != ".ci" && strings.HasPrefix(base, "."):
			return fs.SkipDir // made here, or git's
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses the Go files of the repository.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var all []goFile
	files(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "testdata/") {
			return
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		all = append(all, goFile{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			lines: set.File(parsed.Pos()).LineCount(), File: parsed,
		})
	})
	if len(all) < 50 {
		t.Fatalf("only %d Go files found: is %s the top of the repository?", len(all), root)
	}
	return all
}

// within reports whether a folder is one of tops or below it.
func within(dir string, tops ...string) bool {
	for _, top := range tops {
		if dir == top || strings.HasPrefix(dir, top+"/") {
			return true
		}
	}
	return false
}

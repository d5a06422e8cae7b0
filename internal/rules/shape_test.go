package rules

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackageComments: each package has exactly one comment that says what it
// is for, so that there is one place to look and to keep true.
func TestPackageComments(t *testing.T) {
	type key struct{ dir, name string }
	comments := make(map[key][]string)
	for _, file := range goFiles(t) {
		k := key{file.dir, strings.TrimSuffix(file.Name.Name, "_test")}
		found := comments[k]
		if file.Doc != nil {
			found = append(found, file.name)
			if want := "Package " + k.name + " "; k.name != "main" && !strings.HasPrefix(file.Doc.Text(), want) {
				t.Errorf("%s: the package comment does not begin with %q", file.name, want)
			}
		}
		comments[k] = found
	}
	for k, found := range comments {
		if len(found) != 1 {
			t.Errorf("%s: package %s has %d package comments %v, want one", k.dir, k.name, len(found), found)
		}
	}
}

// TestFileLength: a file that has grown past this holds more than one thing.
func TestFileLength(t *testing.T) {
	const most = 400
	for _, file := range goFiles(t) {
		if file.lines > most {
			t.Errorf("%s has %d lines, %d are the most: split it by what it is about", file.name, file.lines, most)
		}
	}
}

// TestNothingHidden: no work before main, and no settings that main does not
// read and document.
func TestNothingHidden(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init; let the caller call it", file.name)
			}
		}
		if file.test || file.Name.Name == "main" || within(file.dir, "e2e") {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			call, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if from, ok := call.X.(*ast.Ident); ok && from.Name == "os" {
				switch call.Sel.Name {
				case "Getenv", "LookupEnv", "Environ", "ExpandEnv":
					t.Errorf("%s: os.%s; main reads the environment and passes options", file.name, call.Sel.Name)
				}
			}
			return true
		})
	}
}

// TestNoPathsOfThisMachine: nothing names the folder that it was written in.
func TestNoPathsOfThisMachine(t *testing.T) {
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(checkout, string(filepath.Separator)) < 2 {
		t.Skipf("%s is too short a path to look for", checkout)
	}
	files(t, func(name string) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), checkout+"/") {
			t.Errorf("%s names %s", name, checkout)
		}
	})
}

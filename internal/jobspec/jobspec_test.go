package jobspec

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with the file, or rewrites it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func each(t *testing.T, pattern string, f func(t *testing.T, base string, src []byte)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f(t, strings.TrimSuffix(file, ".yml"), src)
		})
	}
}

var random = regexp.MustCompile(`^[a-z]+_[a-z]+_[0-9a-z]{10}$`)

func TestValid(t *testing.T) {
	each(t, "testdata/valid/*.yml", func(t *testing.T, base string, src []byte) {
		spec, err := Parse("job.yml", src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		whole := spec.Job
		if spec.Environment != nil {
			whole.Image = "its/image"
		}
		if err := whole.Validate(); err != nil {
			t.Error(err)
		}
		if random.MatchString(spec.Job.Name) {
			spec.Job.Name = "RANDOM"
		}
		data, err := json.MarshalIndent(spec, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, base+".json", string(data)+"\n")
	})
}

func TestInvalid(t *testing.T) {
	each(t, "testdata/invalid/*.yml", func(t *testing.T, base string, src []byte) {
		spec, err := Parse("job.yml", src, Options{})
		if spec != nil {
			t.Error("a job in spite of problems")
		}
		var problems *Error
		if !errors.As(err, &problems) {
			t.Fatalf("%T %v, want an *Error", err, err)
		}
		golden(t, base+".txt", err.Error()+"\n")
	})
}

const small = "name: a\ncommand: run ${{inputs.x}}\nenvironment: i:1\ncompute: c\ninputs: {x: 1}\n"

func TestSet(t *testing.T) {
	spec, err := Parse("job.yml", []byte(small), Options{
		Set: []string{"inputs.x=0.50", "inputs.y=a: b", "environment.image=j:2", "resources.instance_count=2", "environment_variables.A=b=c",
			"limits.timeout=60", "name=b", "description='quoted'", "display_name=", "tags.on=true"},
		Name: "c",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := protocol.Job{Name: "c", Command: "run 0.50", Image: "j:2", Compute: "c", Instances: 2, TimeoutSeconds: 60,
		Description: "quoted", Env: map[string]string{"A": "b=c"}, Inputs: map[string]string{"x": "0.50", "y": "a: b"}, Tags: map[string]string{"on": "true"}}
	if diff := cmp.Diff(want, spec.Job); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSetProblemsNameTheArgument(t *testing.T) {
	_, err := Parse("job.yml", []byte(small), Options{
		Set:  []string{"nonsense", "=x", "a..b=1", "resources.instance_count=many", "comptue=x", "command=run ${{inputs.z}}", "tags=\x1b", "limits.timeout.x=1"},
		Name: "no good",
	})
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "testdata/set.txt", err.Error()+"\n")
}

func TestCheckFolder(t *testing.T) {
	var asked string
	_, err := Parse("job.yml", []byte(small+"code: ./nowhere\nextra: 1\n"), Options{CheckFolder: func(path string) error {
		asked = path
		return errors.New("there is no such folder")
	}})
	if err == nil || !strings.Contains(err.Error(), "job.yml:6:7: there is no such folder") || !strings.Contains(err.Error(), "extra") {
		t.Errorf("error %v", err)
	}
	if asked != "./nowhere" {
		t.Errorf("asked for %q", asked)
	}
}

func TestRenderColour(t *testing.T) {
	_, err := Parse("job.yml", []byte("command: [a]\nenvironment: i\ncompute: c\n"), Options{})
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	plain := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(problems.Render(true), "")
	if diff := cmp.Diff(problems.Render(false), plain); diff != "" || plain == problems.Render(true) {
		t.Errorf("colour changes the text or is missing:\n%s", diff)
	}
}

// TestHostile: size costs no more than it should, and the list of problems has
// an end.
func TestHostile(t *testing.T) {
	for name, src := range map[string]string{
		"too large":    strings.Repeat("#", MaxSize+1),
		"many keys":    strings.Repeat("a: 1\n", 200_000),
		"brackets":     strings.Repeat("[", 500_000),
		"dashes":       strings.Repeat("- ", 9_000),
		"stairs":       stairs(400),
		"questions":    strings.Repeat("? ", 9_000),
		"tags":         strings.Repeat("!a ", 9_000),
		"anchors":      strings.Repeat("&a ", 9_000),
		"bomb":         "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
		"many unknown": unknown(3000),
		"expressions":  "command: " + strings.Repeat("${{x}}", 100_000) + "\n",
		"expression":   "command: " + strings.Repeat("${{x}}", 10_000) + "\n",
		"unclosed":     "command: " + strings.Repeat("${{", 30_000) + "\n",
		"large job":    "command: " + strings.Repeat("x", 200_000) + "\nenvironment: i\ncompute: c\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("job.yml", []byte(src), Options{})
			var problems *Error
			if !errors.As(err, &problems) {
				t.Fatalf("%T %v", err, err)
			}
			if n := len(err.Error()); n > 20_000 {
				t.Errorf("the message has %d bytes", n)
			}
			if strings.Contains(err.Error(), "gave up") {
				t.Error(err)
			}
		})
	}
}

// TestBomb: a command that grows beyond any job is given up while it grows.
func TestBomb(t *testing.T) {
	src := "inputs: {x: " + strings.Repeat("y", 90_000) + "}\ncommand: " + strings.Repeat("${{inputs.x}}", 7_000) + "\nenvironment: i\ncompute: c\n"
	_, err := Parse("job.yml", []byte(src), Options{})
	if err == nil || !strings.Contains(err.Error(), "job.yml:2:10: command is too large") {
		t.Errorf("%.200v", err)
	}
}

// stairs nests a list on each line within the one before.
func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", 2*i) + "-\n")
	}
	return b.String()
}

func unknown(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("k" + strings.Repeat("x", i%40) + string(rune('a'+i%26)) + strings.Repeat("y", i/40) + ": 1\n")
	}
	return b.String()
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		name := newName()
		if err := protocol.CheckName(name); err != nil || !random.MatchString(name) || seen[name] {
			t.Fatalf("%q again %v: %v", name, seen[name], err)
		}
		seen[name] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.yml", "testdata/invalid/*.yml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src, "inputs.x=3")
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, set string) {
		spec, err := Parse("job.yml", src, Options{Set: []string{set}})
		if err == nil {
			if spec.Environment != nil {
				if spec.Job.Image != "" {
					t.Fatalf("an image beside environment %v", *spec.Environment)
				}
				spec.Job.Image = "its/image"
			}
			if err := spec.Job.Validate(); err != nil {
				t.Fatalf("a job that is not valid: %v", err)
			}
			return
		}
		var problems *Error
		if !errors.As(err, &problems) || spec != nil || len(problems.Problems) == 0 {
			t.Fatalf("%v, %T %v", spec, err, err)
		}
		if strings.ContainsAny(problems.Render(true), "\r\t\x00") {
			t.Fatalf("control characters in %q", err)
		}
	})
}

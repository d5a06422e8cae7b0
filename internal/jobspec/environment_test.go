package jobspec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/v1"
)

func TestParseEnvironment(t *testing.T) {
	got, err := ParseEnvironment("env.yml", []byte("$schema: x\nname: sklearn\nversion: 1.0\nimage: registry.example/sklearn:1\ndescription: d\ntags: {team: a}\nos_type: linux\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &EnvironmentSpec{Name: "sklearn", Version: "1.0", EnvironmentSettings: v1.EnvironmentSettings{
		Image: "registry.example/sklearn:1", Description: "d", Tags: map[string]string{"team": "a"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, err = ParseEnvironment("env.yml", []byte("name: a b\nversion: latest\nimage: sha256:0\nconda_file: ./c.yml\nbuild: {path: .}\nos_type: windows\nimgae: x\n"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "testdata/environment/wrong.txt", err.Error()+"\n")
}

func TestParseAsset(t *testing.T) {
	for text, want := range map[string]Asset{
		"sklearn:1": {"sklearn", "1"}, "a.b-c_d:2026.1": {"a.b-c_d", "2026.1"}, "sklearn@latest": {"sklearn", "latest"},
	} {
		if got, err := parseAsset(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "has no version", "sklearn": "has no version", "sklearn:": `"" is not an environment's version`, ":1": `"" is not an environment's name`,
		"a:b:c": `"b:c" is not`, "a/b:1": `"a/b" is not`, "a..b:1": `"a..b" is not`, "sklearn@newest": "no label", "@latest": `"" is not`, "sklearn:latest": "stands for",
		strings.Repeat("a", 256) + ":1": "1 to 255",
	} {
		if got, err := parseAsset(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzEnvironment: an environment's file is settings that a relay takes, or an *Error.
func FuzzEnvironment(f *testing.F) {
	files, err := filepath.Glob("testdata/environment/*.yml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		spec, err := ParseEnvironment("f.yml", src)
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Errorf("%v", err)
			}
			return
		}
		if spec.Image != "" && spec.Check() != nil {
			t.Errorf("%v", spec.Check())
		}
		if err := v1.CheckEnvironmentName(spec.Name); spec.Name != "" && err != nil {
			t.Error(err)
		}
		if err := v1.CheckEnvironmentVersion(spec.Version); spec.Version != "" && err != nil {
			t.Error(err)
		}
	})
}

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRegistryConfig: the login for the image's registry is taken, and no other.
func TestRegistryConfig(t *testing.T) {
	for name, tc := range map[string]struct{ config, image, want, problem string }{
		"docker hub":        {`{"auths":{"https://index.docker.io/v1/":{"auth":"a"},"x.example":{"auth":"b"}}}`, "python:3", `{"auths":{"https://index.docker.io/v1/":{"auth":"a"}}}`, ""},
		"a host":            {`{"auths":{"a.example":{"auth":"a"},"x.example":{"auth":"b"}}}`, "x.example/i:1", `{"auths":{"x.example":{"auth":"b"}}}`, ""},
		"a port":            {`{"auths":{"a.example":{"auth":"a"}}}`, "a.example:5000/i:1", "", "no password for a.example:5000"},
		"a name":            {`{"auths":{"a.example":{"username":"u","password":"p","email":"e"}}}`, "a.example/i", `{"auths":{"a.example":{"username":"u","password":"p"}}}`, ""},
		"only a token":      {`{"auths":{"a.example":{"identitytoken":"hush"}}}`, "a.example/i", "", "no password for a.example"},
		"a helper":          {`{"credHelpers":{"a.example":"gcloud"}}`, "a.example/i", "", "with docker-credential-gcloud"},
		"a helper of other": {`{"auths":{"a.example":{"auth":"a"}},"credHelpers":{"b.example":"gcloud"}}`, "a.example/i", `{"auths":{"a.example":{"auth":"a"}}}`, ""},
		"not JSON":          {`hush`, "a.example/i", "", "it is not JSON"},
		"another form":      {`{"auths":"hush"}`, "a.example/i", "", "it is not JSON"},
		"no image":          {`{}`, "a/B", "", "names no registry"},
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, []byte(tc.config), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := registryConfig(path, tc.image)
		switch {
		case string(got) != tc.want:
			t.Errorf("%s: got %s, %v, want %s", name, got, err, tc.want)
		case (err == nil) != (tc.problem == "") || err != nil && (!strings.Contains(err.Error(), tc.problem) || strings.Contains(err.Error(), "hush")):
			t.Errorf("%s: %v, want %q", name, err, tc.problem)
		}
	}
}

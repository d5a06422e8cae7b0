package images

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// static64 returns a static binary for an architecture: this test itself, with
// another machine's number in its header for arm64.
func static64(t *testing.T, arch string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	text[18] = map[string]byte{"amd64": 62, "arm64": 183}[arch]
	file := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAgent(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "agent.tar")
			binary := static64(t, arch)
			err := Agent(AgentOptions{Agent: binary, Launch: binary, Arch: arch, Tag: "trainrelay-agent:dev", Out: out})
			if err != nil {
				t.Fatal(err)
			}
			tag, err := name.NewTag("trainrelay-agent:dev")
			if err != nil {
				t.Fatal(err)
			}
			image, err := tarball.ImageFromPath(out, &tag)
			if err != nil {
				t.Fatal(err)
			}
			file, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			got := []string{file.OS, file.Architecture, file.Config.User, strings.Join(file.Config.Entrypoint, " ")}
			if diff := cmp.Diff([]string{"linux", arch, "65532:65532", "/trainrelay-agent"}, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			files := contents(t, mutate.Extract(image))
			if diff := cmp.Diff([]string{"trainrelay-agent -rwxr-xr-x", "trainrelay-launch -rwxr-xr-x"}, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSameInputsSameBytes(t *testing.T) {
	binary := static64(t, "amd64")
	var written [2]string
	for i := range written {
		out := filepath.Join(t.TempDir(), "agent.tar")
		if err := Agent(AgentOptions{Agent: binary, Launch: binary, Arch: "amd64", Tag: "a:b", Out: out}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		written[i] = string(text)
	}
	if written[0] != written[1] {
		t.Error("the same binaries gave two different archives")
	}
}

func TestRefusedBinaries(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+strings.Repeat("true\n", 100)), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, binary, arch, want string }{
		{"another architecture", static64(t, "amd64"), "arm64", "build it with GOARCH=arm64"},
		{"an unknown architecture", static64(t, "amd64"), "vax", `architecture "vax" is not`},
		{"no binary", script, "amd64", "bad magic number"},
		{"a dynamic binary", "/bin/sh", "amd64", "build it with CGO_ENABLED=0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "agent.tar")
			err := Agent(AgentOptions{Agent: test.binary, Launch: test.binary, Arch: test.arch, Tag: "a:b", Out: out})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("an image was written all the same")
			}
		})
	}
}

// contents lists the files of an archive with their modes.
func contents(t *testing.T, archive io.ReadCloser) []string {
	t.Helper()
	defer archive.Close()
	var files []string
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, header.Name+" "+header.FileInfo().Mode().String())
	}
}

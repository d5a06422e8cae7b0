package version

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	settings := []debug.BuildSetting{
		{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"},
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"},
	}
	for _, test := range []struct {
		number string
		info   debug.BuildInfo
		want   build
	}{
		{"v0.1.0", debug.BuildInfo{GoVersion: "go1.26.8", Settings: settings},
			build{"v0.1.0", "0123456789ab-dirty", "go1.26.8", "linux/arm64"}},
		{"", debug.BuildInfo{Main: debug.Module{Version: "v0.2.0"}, Settings: settings[:3]},
			build{"v0.2.0", "0123456789ab", "", "linux/arm64"}},
		{"", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, build{"devel", "", "", "/"}},
		{"", debug.BuildInfo{}, build{"devel", "", "", "/"}},
	} {
		if got := describe(test.number, &test.info); got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
}

// The variable's name is also written where binaries are built.
func TestLinkerSetsTheNumber(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "version.test")
	const variable = "github.com/trainrelay/trainrelay/internal/version.number"
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "-ldflags", "-X "+variable+"=v9.8.7", ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "-test.run", "TestPrint", "-test.v").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "v9.8.7 (") || !strings.Contains(string(out), runtime.Version()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPrint(t *testing.T) {
	if got := String(); !strings.HasPrefix(got, Short()+" (") {
		t.Errorf("version is %q, short %q", got, Short())
	}
	t.Log(String())
}

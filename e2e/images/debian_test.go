package images

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSourcesOf(t *testing.T) {
	targets := `Debian http://mirror.example/debian/ bookworm main
Debian http://mirror.example/debian/ bookworm main
Debian http://mirror.example/debian/ bookworm-updates main
Debian http://mirror.example/security/ bookworm-security main
Debian http://mirror.example/debian/ trixie main
. http://other.example/apt cloud main
Vendor http://other.example/debian/ bookworm main
`
	want := `deb http://mirror.example/debian/ bookworm main
deb http://mirror.example/debian/ bookworm-updates main
deb http://mirror.example/security/ bookworm-security main
`
	if diff := cmp.Diff(want, sourcesOf(targets, "bookworm")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCodename(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\nVERSION_CODENAME=bookworm\n": "bookworm",
		"VERSION_CODENAME=\"trixie\"":            "trixie",
		"ID=other\n":                             "",
	} {
		if got := codename(release); got != want {
			t.Errorf("codename of %q is %q, want %q", release, got, want)
		}
	}
}

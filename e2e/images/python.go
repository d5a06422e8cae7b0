package images

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// PythonPackages are the Debian packages that making the Python image needs.
var PythonPackages = []string{"mmdebstrap"}

// PythonTag is the tag of the Python image.
const PythonTag = "trainrelay-sklearn:dev"

// PythonOptions says where the Python image is kept.
type PythonOptions struct {
	Cache string                           // folder that keeps the image between runs
	Log   func(format string, args ...any) // progress; nil is silence
}

// recipe is all that the Python image is made from: a change makes a new image.
type recipe struct {
	Suite, Arch     string
	Include         []string
	Exclude, Remove []string
	StandIns        []string
	Config          v1.Config
	Revision        int
}

func newRecipe(suite string) recipe {
	return recipe{
		Suite: suite, Arch: runtime.GOARCH, Revision: 1,
		Include: []string{"python3", "python3-sklearn"},
		// What dpkg need not unpack, and what training does not need afterwards.
		Exclude: []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/include/*"},
		Remove: []string{
			`find "$1"/usr/lib/python3* -type d -name tests -prune -exec rm -r {} +`,
			`rm -rf "$1/usr/share/perl" "$1"/usr/lib/*-linux-gnu/perl "$1"/usr/lib/*-linux-gnu/libperl* "$1/usr/share/perl5"`,
			`rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/usr/share/common-licenses`,
		},
		// scipy is compiled with pythran, brings a whole compiler by it and never
		// calls it: an empty package stands in.
		StandIns: []string{"python3-pythran"},
		Config: v1.Config{
			Cmd: []string{"python3"},
			Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		},
	}
}

// Python returns the file of an image with Python and scikit-learn, whose name
// is PythonTag. It is made once a recipe, from the Debian mirror that this
// machine's apt is set to, in some minutes; needs root and PythonPackages.
func Python(ctx context.Context, o PythonOptions) (string, error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	debian, err := findDebian(ctx)
	if err != nil {
		return "", err
	}
	r := newRecipe(debian.suite)
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	out := filepath.Join(o.Cache, fmt.Sprintf("trainrelay-sklearn-%.6x.tar", sha256.Sum256(text)))
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return "", err
	}
	build, err := os.MkdirTemp(o.Cache, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(build)
	began := time.Now()
	o.Log("making the Python image from Debian %s packages, once: this takes some minutes", debian.suite)
	root, err := r.bootstrap(ctx, debian, build)
	if err != nil {
		return "", fmt.Errorf("make the Python image: %w", err)
	}
	if err := removeOlder(o.Cache); err != nil {
		return "", err
	}
	err = write(out, PythonTag, r.Arch, r.Config, func() (io.ReadCloser, error) { return os.Open(root) })
	if err != nil {
		return "", err
	}
	o.Log("made the Python image in %.0f s", time.Since(began).Seconds())
	return out, nil
}

// bootstrap makes the image's root file system and returns the archive of it.
func (r recipe) bootstrap(ctx context.Context, debian debian, build string) (string, error) {
	sources := filepath.Join(build, "sources.list")
	if err := os.WriteFile(sources, []byte(debian.sources), 0o644); err != nil {
		return "", err
	}
	root := filepath.Join(build, "root.tar")
	args := []string{"--variant=minbase", "--quiet"}
	for _, name := range r.Include {
		args = append(args, "--include="+name)
	}
	for _, pattern := range r.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	for _, option := range debian.options {
		args = append(args, "--aptopt="+option)
	}
	for _, name := range r.StandIns {
		file, err := standIn(ctx, build, name)
		if err != nil {
			return "", err
		}
		args = append(args, fmt.Sprintf(
			`--essential-hook=cp %q "$1/stand-in.deb" && chroot "$1" dpkg --install /stand-in.deb && rm "$1/stand-in.deb"`, file))
	}
	for _, command := range r.Remove {
		args = append(args, "--customize-hook="+command)
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, r.Suite, root, sources)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+build)
	// It cleans up when it is asked to end, and when it is killed it does not.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return root, run(cmd)
}

// standIn makes an empty Debian package of a name.
func standIn(ctx context.Context, build, name string) (string, error) {
	control := filepath.Join(build, name, "DEBIAN", "control")
	if err := os.MkdirAll(filepath.Dir(control), 0o755); err != nil {
		return "", err
	}
	text := fmt.Sprintf("Package: %s\nVersion: 999\nArchitecture: all\nMaintainer: nobody\nDescription: stand-in\n", name)
	if err := os.WriteFile(control, []byte(text), 0o644); err != nil {
		return "", err
	}
	file := filepath.Join(build, name+".deb")
	return file, run(exec.CommandContext(ctx, "dpkg-deb", "--root-owner-group", "--build", filepath.Join(build, name), file))
}

// removeOlder removes the images of earlier recipes.
func removeOlder(cache string) error {
	files, err := filepath.Glob(filepath.Join(cache, "trainrelay-sklearn-*.tar"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

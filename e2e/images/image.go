package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Nobody is the user and group of our own images.
const Nobody = 65532

// Pause writes the image that holds a pod's namespaces, from a static binary,
// for this machine's architecture.
func Pause(binary, tag, out string) error {
	return static(out, tag, runtime.GOARCH, map[string]string{"/pause": binary}, v1.Config{
		Entrypoint: []string{"/pause"},
		User:       fmt.Sprintf("%d:%d", Nobody, Nobody),
	})
}

// AgentOptions says what the agent's image is made of.
type AgentOptions struct {
	Agent  string // the static binary trainrelay-agent
	Launch string // the static binary trainrelay-launch
	Arch   string // amd64 or arm64, as the binaries are built; this machine's when empty
	Tag    string // such as trainrelay-agent:dev
	Out    string // file to write
}

// Agent writes the agent's image: two binaries, a user without rights, nothing
// else, not even a shell.
func Agent(o AgentOptions) error {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	files := map[string]string{"/trainrelay-agent": o.Agent, "/trainrelay-launch": o.Launch}
	return static(o.Out, o.Tag, o.Arch, files, v1.Config{
		Entrypoint: []string{"/trainrelay-agent"},
		User:       fmt.Sprintf("%d:%d", Nobody, Nobody),
		WorkingDir: "/",
	})
}

// static writes an image of static binaries, named by their path in the image.
func static(out, tag, arch string, binaries map[string]string, config v1.Config) error {
	for _, binary := range binaries {
		if err := checkStatic(binary, arch); err != nil {
			return fmt.Errorf("image %s: %w", tag, err)
		}
	}
	layer, err := pack(binaries)
	if err != nil {
		return fmt.Errorf("image %s: %w", tag, err)
	}
	return write(out, tag, arch, config, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer)), nil
	})
}

// checkStatic refuses a binary that an image without a C library, or of another
// architecture, cannot run.
func checkStatic(binary, arch string) error {
	f, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	defer f.Close()
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	want, known := machines[arch]
	if !known {
		return fmt.Errorf("architecture %q is not amd64 or arm64", arch)
	}
	if f.Machine != want {
		return fmt.Errorf("%s is built for %s, the image is for %s: build it with GOARCH=%s", binary, f.Machine, want, arch)
	}
	for _, program := range f.Progs {
		if program.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static: build it with CGO_ENABLED=0", binary)
		}
	}
	return nil
}

// pack makes a layer of the binaries in a fixed order, without times.
func pack(binaries map[string]string) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, target := range slices.Sorted(maps.Keys(binaries)) {
		text, err := os.ReadFile(binaries[target])
		if err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: path.Clean(target)[1:], Mode: 0o755, Size: int64(len(text))}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return layer.Bytes(), w.Close()
}

// write writes an image of one layer as a docker archive.
func write(out, tag, arch string, config v1.Config, layer tarball.Opener) error {
	reference, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	// It is loaded on the machine that wrote it: packing tightly would cost more
	// than it saves.
	content, err := tarball.LayerFromOpener(layer, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		return fmt.Errorf("image %s: %w", tag, err)
	}
	image, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", arch, config
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	partial := out + ".partial"
	if err := tarball.WriteToFile(partial, reference, image); err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	return os.Rename(partial, out)
}

package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// archive makes a tar of the entries; content is that of regular files.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
func dir(name string) tar.Header  { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

// listing describes what is in a folder.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			name += " -> " + to
		}
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestUnpack(t *testing.T) {
	script := file("bin/run.sh")
	script.Mode = 0o700
	data := archive(t, file("a.txt"), dir("bin/"), script, file("deep/er/b"), link("deep/up", "../a.txt"), link("here", "./bin//"))
	sum := sha256.Sum256(data)
	to := t.TempDir()
	if err := Unpack(t.Context(), bytes.NewReader(data), to, "sha256:"+hex.EncodeToString(sum[:]), Limits{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a.txt", "bin/", "bin/run.sh", "deep/", "deep/er/", "deep/er/b", "deep/up -> ../a.txt", "here -> bin"}
	if diff := cmp.Diff(want, listing(t, to)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	content, err := os.ReadFile(filepath.Join(to, "deep", "up"))
	if err != nil || string(content) != "data" {
		t.Errorf("content through the symlink: %q, %v", content, err)
	}
	for name, executable := range map[string]bool{"a.txt": false, "bin/run.sh": true} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil || info.Mode()&0o100 != 0 != executable {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		entries    []tar.Header
	}{
		{"traversal", "does not stay inside", []tar.Header{file("../a")}},
		{"hidden traversal", "does not stay inside", []tar.Header{file("a/../../b")}},
		{"absolute", "does not stay inside", []tar.Header{file("/etc/passwd")}},
		{"the folder itself", "in the archive twice", []tar.Header{dir("./")}},
		{"absolute symlink", "only relative targets", []tar.Header{link("a", "/etc")}},
		{"symlink out", "leads out of the folder", []tar.Header{link("d/a", "../../x")}},
		{"symlink out by another", "not allowed", []tar.Header{dir("d"), link("d/up", ".."), link("d/x", "up/../y")}},
		{"file through a symlink", "no folder", []tar.Header{link("a", "b"), file("a/c")}},
		{"file in a file", "no folder", []tar.Header{file("a"), file("a/c")}},
		{"file over a symlink", "twice", []tar.Header{link("a", "b"), file("a")}},
		{"folder over a symlink", "twice", []tar.Header{link("a", "b"), dir("a/")}},
		{"device", "only files", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}},
		{"fifo", "only files", []tar.Header{{Typeflag: tar.TypeFifo, Name: "pipe"}}},
		{"hard link", "only files", []tar.Header{file("a"), {Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}}},
		{"too many", "more than 3 files", []tar.Header{dir("1"), dir("2"), dir("3"), dir("4")}},
		{"too many folders", "more than 3 files", []tar.Header{file("1/2/3/4/5")}},
		{"too large", "larger than 8 bytes", []tar.Header{file("1"), file("2"), file("3")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Unpack(t.Context(), bytes.NewReader(archive(t, tc.entries...)), t.TempDir(), "", Limits{Bytes: 8, Files: 3})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestUnpackBrokenStreams(t *testing.T) {
	good := archive(t, file("a"))
	for _, tc := range []struct {
		name, want string
		data       []byte
	}{
		{"cut in the header", "unexpected EOF", good[:100]},
		{"cut in the content", "unexpected EOF", good[:514]},
		{"other bytes behind the end", "altered or cut", append(bytes.Clone(good), 0)},
		{"not an archive", "read the archive", bytes.Repeat([]byte("x"), 2048)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sum := sha256.Sum256(good)
			err := Unpack(t.Context(), bytes.NewReader(tc.data), t.TempDir(), "sha256:"+hex.EncodeToString(sum[:]), Limits{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		err := Unpack(t.Context(), zeros{}, t.TempDir(), "", Limits{Bytes: 1 << 20, Files: 1})
		if err == nil || !strings.Contains(err.Error(), "does not end") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Unpack(ctx, bytes.NewReader(good), t.TempDir(), "", Limits{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// FuzzUnpack: whatever arrives, nothing is made outside the folder, nothing
// special inside it, no symlink leads out, and the limits hold.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, file("a"), dir("b/"), link("b/c", "../a"), file("d/e")))
	f.Add(archive(f, link("d/e/up", "../.."), link("x", "d/e/up")))
	f.Add(archive(f, file(strings.Repeat("long/", 60)+"name")))
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		inside := filepath.Join(outside, "inside")
		if err := os.Mkdir(inside, 0o700); err != nil {
			t.Fatal(err)
		}
		// Most inputs are no archive; what matters is what was made.
		_ = Unpack(t.Context(), bytes.NewReader(data), inside, "", Limits{Bytes: 1 << 16, Files: 20})
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 1 {
			t.Fatalf("beside the folder: %v, %v", entries, err)
		}
		made, size := 0, int64(0)
		err = filepath.WalkDir(inside, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			made++
			switch info, err := d.Info(); {
			case err != nil:
				return err
			case d.Type().IsRegular():
				size += info.Size()
			case d.Type() == fs.ModeSymlink:
				if to, err := filepath.EvalSymlinks(p); err == nil && to != inside && !strings.HasPrefix(to, inside+"/") {
					t.Errorf("%s leads out to %s", p, to)
				}
			case !d.IsDir():
				t.Errorf("%s is of type %v", p, d.Type())
			}
			return nil
		})
		if err != nil || made > 21 || size > 1<<16+1 {
			t.Errorf("%d entries, %d bytes, %v", made, size, err)
		}
	})
}

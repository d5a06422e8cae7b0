package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/snapshot"
)

// folder makes a folder of files; a name that ends with a slash is a folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, dir string, opts Options) *Folder {
	t.Helper()
	f, err := Open(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func names(f *Folder) []string {
	var names []string
	for _, e := range f.entries {
		if !e.mode.IsDir() {
			names = append(names, e.name)
		}
	}
	return names
}

func TestIgnoreFiles(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"none", map[string]string{"a": "", ".git/config": "", "sub/.git": "", "b/c": ""}, []string{"a", "b/c"}},
		{".gitignore", map[string]string{".gitignore": "# made\n*.log\n/data/\n", "x.log": "", "b/y.log": "", "data/d": "", "b/data/e": ""},
			[]string{".gitignore", "b/data/e"}},
		{".amlignore wins", map[string]string{".amlignore": "*.csv\n", ".gitignore": "*.py\n", "a.py": "", "a.csv": ""},
			[]string{".amlignore", ".gitignore", "a.py"}},
		{"negation", map[string]string{".amlignore": "*.txt\n!keep.txt\n", "a.txt": "", "keep.txt": "", "b/keep.txt": ""},
			[]string{".amlignore", "b/keep.txt", "keep.txt"}},
		{"no way back into a folder left out", map[string]string{".amlignore": "data/\n!data/keep\n", "data/keep": "", "a": ""},
			[]string{".amlignore", "a"}},
		{"nested", map[string]string{".gitignore": "*.tmp\n", "b/.gitignore": "!x.tmp\nlocal\n", "x.tmp": "", "b/x.tmp": "", "b/local": "", "local": ""},
			[]string{".gitignore", "b/.gitignore", "b/x.tmp", "local"}},
		{"stars", map[string]string{".gitignore": "**/cache\nm/**/z\n", "a/cache/f": "", "cache": "", "m/1/2/z": "", "m/1/y": ""},
			[]string{".gitignore", "m/1/y"}},
		{"escapes and CRLF", map[string]string{".gitignore": "\ufeff\\#a\r\n\\!b\r\n", "#a": "", "!b": "", "c": ""}, []string{".gitignore", "c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, names(open(t, folder(t, tc.files), Options{}))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestRoundTrip: what is unpacked is what was packed, and the same content has
// the same digest whatever its times and permissions.
func TestRoundTrip(t *testing.T) {
	files := map[string]string{"train.py": "print(1)", "lib/a.py": "a", "lib/" + strings.Repeat("n", 180) + "/b.py": "b", "ünï.txt": "u", "empty/": "", "zero": ""}
	from := folder(t, files)
	if err := os.Symlink("../train.py", filepath.Join(from, "lib", "up.py")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(from, "train.py"), 0o711); err != nil {
		t.Fatal(err)
	}
	var told []int64
	f := open(t, from, Options{Progress: func(done, total int64) { told = append(told, done, total) }})
	digest, err := f.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 || told[len(told)-2] != f.Bytes() || told[len(told)-1] != f.Bytes() || f.Bytes() != 11 {
		t.Errorf("progress %v of %d bytes", told, f.Bytes())
	}
	var tar bytes.Buffer
	if err := f.Write(t.Context(), &tar); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := snapshot.Unpack(t.Context(), &tar, to, digest, snapshot.Limits{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(to, "zero"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	again := open(t, to, Options{})
	if d, err := again.Digest(t.Context()); err != nil || d != digest {
		t.Errorf("packed again: %s, %v; was %s", d, err, digest)
	}
	if diff := cmp.Diff(names(f), names(again)); diff != "" {
		t.Errorf("-packed +unpacked:\n%s", diff)
	}
	if err := os.Chmod(filepath.Join(to, "zero"), 0o755); err != nil {
		t.Fatal(err)
	}
	if d, err := open(t, to, Options{}).Digest(t.Context()); err != nil || d == digest {
		t.Errorf("another file executable, the same digest; %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		make       func(dir string) error
	}{
		{"symlink out", `symlink "sub/out" → "../../x": it leads out`, func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("../../x", filepath.Join(dir, "sub", "out")))
		}},
		{"absolute symlink", `symlink "abs" → "/etc/hosts"`, func(dir string) error { return os.Symlink("/etc/hosts", filepath.Join(dir, "abs")) }},
		{"fifo", `"pipe" is neither file`, func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644) }},
		{"too many", "more than 3 files", func(dir string) error {
			return os.CopyFS(dir, os.DirFS(folder(t, map[string]string{"a/b": "", "c": "", "d": ""})))
		}},
		{"too large", `more than 100 bytes (at "big")`, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "big"), make([]byte, 101), 0o644)
		}},
		{"odd ignore file", ".amlignore: not a file", func(dir string) error { return os.Mkdir(filepath.Join(dir, ".amlignore"), 0o755) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tc.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), dir, Options{Limits: snapshot.Limits{Bytes: 100, Files: 3}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	file := filepath.Join(folder(t, map[string]string{"train.py": ""}), "train.py")
	if _, err := Open(t.Context(), file, Options{}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file: %v", err)
	}
	if _, err := Open(t.Context(), file+"s", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func TestChangesWhilePacking(t *testing.T) {
	for name, content := range map[string]string{"grown": "more than before", "shrunk": ""} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"a": "before"})
			f := open(t, dir, Options{})
			if err := os.WriteFile(filepath.Join(dir, "a"), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.Write(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), `"a": its size changed`) {
				t.Errorf("error %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, folder(t, map[string]string{"a": "a"}), Options{}).Write(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestBoundedMemory packs and unpacks 200 MB at once.
func TestBoundedMemory(t *testing.T) {
	const files, size = 50, 4 << 20
	from, to := t.TempDir(), t.TempDir()
	for i := range files {
		// Sparse: the content costs no disk until it is unpacked.
		name := filepath.Join(from, string(rune('a'+i/26))+string(rune('a'+i%26)))
		if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := before.HeapAlloc
	f := open(t, from, Options{Progress: func(done, _ int64) {
		if done%(8<<20) == 0 {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
	}})
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := f.Write(t.Context(), w)
		packed <- errors.Join(err, w.CloseWithError(err))
	}()
	if err := snapshot.Unpack(t.Context(), r, to, "", snapshot.Limits{}); err != nil {
		t.Fatal(err)
	}
	if err := <-packed; err != nil {
		t.Fatal(err)
	}
	if f.Bytes() != files*size {
		t.Fatalf("%d bytes packed", f.Bytes())
	}
	if grown := peak - before.HeapAlloc; grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

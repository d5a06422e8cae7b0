package blobs

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func newStore(t *testing.T, opts Options) *Store {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// blob is the digest of the content and its compressed form.
func blob(t *testing.T, content []byte) (digest string, compressed []byte) {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:]), buf.Bytes()
}

func random(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{}).Read(b); err != nil {
		panic(err) // it never fails
	}
	return b
}

// files counts the files in the store's folder, unfinished ones included.
func files(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(s.opts.Dir, func(_ string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func has(t *testing.T, s *Store, digest string) bool {
	t.Helper()
	found, err := s.Has(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPutGet(t *testing.T) {
	s := newStore(t, Options{})
	digest, compressed := blob(t, random(100_000))
	if has(t, s, digest) {
		t.Fatal("there before it was put")
	}
	for range 2 { // the second time changes nothing
		if err := s.Put(t.Context(), digest, iotest.OneByteReader(bytes.NewReader(compressed))); err != nil {
			t.Fatal(err)
		}
		if !has(t, s, digest) || s.Used() != int64(len(compressed)) || files(t, s) != 1 {
			t.Fatalf("has %v, %d bytes, %d files", has(t, s, digest), s.Used(), files(t, s))
		}
	}
	content, size, err := s.Get(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got, err := io.ReadAll(content)
	if err != nil || size != int64(len(compressed)) || !bytes.Equal(got, compressed) {
		t.Errorf("%d of %d bytes, %v", len(got), size, err)
	}
}

func TestSurvivesRestart(t *testing.T) {
	s := newStore(t, Options{})
	digest, compressed := blob(t, []byte("kept"))
	if err := s.Put(t.Context(), digest, bytes.NewReader(compressed)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.uploads(), "upload-of-a-crash"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := newStore(t, Options{Dir: s.opts.Dir})
	if !has(t, again, digest) || again.Used() != int64(len(compressed)) || files(t, again) != 1 {
		t.Errorf("has %v, %d bytes, %d files", has(t, again, digest), again.Used(), files(t, again))
	}
}

func TestPutRefuses(t *testing.T) {
	content := random(10_000)
	digest, compressed := blob(t, content)
	other, _ := blob(t, []byte("other"))
	large, tooMuch := blob(t, random(30_000))
	bomb, bombed := blob(t, make([]byte, 1<<20))
	broken := errors.New("the connection broke")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name, digest string
		ctx          context.Context
		content      io.Reader
		want         error
	}{
		{"another digest", other, t.Context(), bytes.NewReader(compressed), ErrMismatch},
		{"not a digest", "sha256:../../x", t.Context(), bytes.NewReader(compressed), ErrNotFound},
		{"plain", digest, t.Context(), bytes.NewReader(content), ErrEncoding},
		{"nothing", digest, t.Context(), strings.NewReader(""), ErrEncoding},
		{"cut", digest, t.Context(), bytes.NewReader(compressed[:5000]), ErrEncoding},
		{"more behind the end", digest, t.Context(), io.MultiReader(bytes.NewReader(compressed), strings.NewReader("more than nothing")), ErrEncoding},
		{"broken", digest, t.Context(), io.MultiReader(bytes.NewReader(compressed[:5000]), iotest.ErrReader(broken)), broken},
		{"canceled", digest, canceled, bytes.NewReader(compressed), context.Canceled},
		{"bomb", bomb, t.Context(), bytes.NewReader(bombed), ErrTooLarge},
		{"over the store's size", large, t.Context(), bytes.NewReader(tooMuch), ErrFull},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t, Options{MaxBytes: 20_000, MaxBlob: 100_000})
			err := s.Put(tc.ctx, tc.digest, tc.content)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if s.Used() != 0 || files(t, s) != 0 {
				t.Errorf("left behind: %d bytes, %d files", s.Used(), files(t, s))
			}
			if err := s.Put(t.Context(), digest, bytes.NewReader(compressed)); err != nil {
				t.Errorf("put right after it: %v", err)
			}
		})
	}
}

// TestDiskFull: the system's error passes through, and nothing is kept.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here:", err)
	}
	defer full.Close()
	s := newStore(t, Options{})
	digest, compressed := blob(t, random(10_000))
	err = s.verify(digest, &upload{ctx: t.Context(), in: bytes.NewReader(compressed), out: full, store: s})
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrEncoding) {
		t.Errorf("error %v", err)
	}
}

func TestManyUploadsOfOneBlob(t *testing.T) {
	s := newStore(t, Options{})
	digest, compressed := blob(t, random(50_000))
	var uploads sync.WaitGroup
	for range 8 {
		uploads.Go(func() {
			if err := s.Put(t.Context(), digest, bytes.NewReader(compressed)); err != nil {
				t.Error(err)
			}
		})
	}
	uploads.Wait()
	if s.Used() != int64(len(compressed)) || files(t, s) != 1 {
		t.Errorf("%d bytes, %d files", s.Used(), files(t, s))
	}
}

func TestPrune(t *testing.T) {
	s := newStore(t, Options{})
	digests := map[string]string{}
	for _, name := range []string{"old", "old but needed", "old and asked for", "new"} {
		digest, compressed := blob(t, []byte(name))
		digests[name] = digest
		if err := s.Put(t.Context(), digest, bytes.NewReader(compressed)); err != nil {
			t.Fatal(err)
		}
		if name != "new" {
			file, err := s.path(digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cutoff := time.Now().Add(-time.Hour)
	before := s.Used()
	freed, err := s.Prune(t.Context(), cutoff, func(ctx context.Context) (map[string]bool, error) {
		_, err := s.Has(ctx, digests["old and asked for"]) // while it prunes
		return map[string]bool{digests["old but needed"]: true}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, digest := range digests {
		if has(t, s, digest) != (name != "old") {
			t.Errorf("%q: has %v", name, has(t, s, digest))
		}
	}
	if freed == 0 || s.Used() != before-freed {
		t.Errorf("freed %d, in use %d before and %d now", freed, before, s.Used())
	}
}

// Package blobs keeps immutable contents by their digest: the snapshots of
// jobs' code. Contents are named by the SHA-256 of their plain bytes, and
// arrive, lie and leave compressed with gzip.
//
// A blob is there only once all of it arrived, its digest was found right and
// it is on disk; a power cut after Put returned does not lose it, one during
// Put leaves nothing. The store has a size: at the limit, Put fails with
// ErrFull, and so does a disk that is full, with the system's error. A failed
// Put leaves nothing behind and may be tried again.
package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// What a Put or Get may fail with, besides errors of the file system.
var (
	ErrNotFound = errors.New("no such blob")
	ErrFull     = errors.New("the blob store is full")
	ErrTooLarge = errors.New("the blob is too large")
	ErrMismatch = errors.New("the content is not what its digest says")
	ErrEncoding = errors.New("the content is not a whole gzip stream")
)

// Options of a store.
type Options struct {
	// Dir is the folder of the blobs; made if missing.
	Dir string
	// MaxBytes bounds all blobs together, compressed; 0 for 20 GiB.
	MaxBytes int64
	// MaxBlob bounds one blob, plain; 0 for protocol.MaxSnapshotSize and room
	// for the archive's own structure.
	MaxBlob int64
}

// Store is a folder of blobs. Its methods may be called side by side.
type Store struct {
	opts Options

	mu   sync.Mutex
	used int64 // bytes on disk, of uploads under way too
}

// suffix of a blob's file.
const suffix = ".gz"

// Open opens the store and clears away what a crash left of uploads.
func Open(opts Options) (*Store, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 20 << 30
	}
	if opts.MaxBlob == 0 {
		opts.MaxBlob = protocol.MaxSnapshotSize + 256<<20
	}
	s := &Store{opts: opts}
	if err := os.RemoveAll(s.uploads()); err != nil {
		return nil, fmt.Errorf("open blobs: clear away unfinished uploads: %w", err)
	}
	if err := os.MkdirAll(s.uploads(), 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	err := s.each(func(_ string, info fs.FileInfo) error {
		s.used += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return s, nil
}

// Used is how many bytes the blobs take.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Has reports whether the blob is there. Being asked for counts as use, so
// that a blob which somebody is about to refer to is not pruned.
func (s *Store) Has(ctx context.Context, digest string) (bool, error) {
	file, err := s.path(digest)
	if err != nil {
		return false, err
	}
	s.mu.Lock() // against remove
	defer s.mu.Unlock()
	now := time.Now()
	switch err := os.Chtimes(file, now, now); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("blob %s: %w", digest, err)
	}
	return true, ctx.Err()
}

// Get opens a blob's content, compressed; size is its length. The caller
// closes it.
func (s *Store) Get(ctx context.Context, digest string) (content io.ReadCloser, size int64, _ error) {
	if found, err := s.Has(ctx, digest); err != nil {
		return nil, 0, err
	} else if !found {
		return nil, 0, fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	file, err := s.path(digest)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", digest, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("blob %s: %w", digest, err), f.Close())
	}
	return f, info.Size(), nil
}

// Prune removes blobs that were not used since before, except those in keep,
// and returns how many bytes that freed. keep is asked for only where there is
// something to remove.
func (s *Store) Prune(ctx context.Context, before time.Time, keep func(context.Context) (map[string]bool, error)) (freed int64, _ error) {
	old := map[string]fs.FileInfo{}
	err := s.each(func(digest string, info fs.FileInfo) error {
		if info.ModTime().Before(before) {
			old[digest] = info
		}
		return ctx.Err()
	})
	if err != nil || len(old) == 0 {
		return 0, err
	}
	kept, err := keep(ctx)
	if err != nil {
		return 0, fmt.Errorf("prune blobs: %w", err)
	}
	for digest := range old {
		if kept[digest] {
			continue
		}
		n, err := s.remove(digest, before)
		freed += n
		if err != nil {
			return freed, fmt.Errorf("prune blob %s: %w", digest, err)
		}
	}
	return freed, nil
}

// remove removes a blob unless it was used in the meantime.
func (s *Store) remove(digest string, before time.Time) (freed int64, _ error) {
	file, err := s.path(digest)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(file)
	if err != nil || !info.ModTime().Before(before) {
		return 0, err
	}
	if err := os.Remove(file); err != nil {
		return 0, err
	}
	s.used -= info.Size()
	return info.Size(), nil
}

// each calls f for every blob.
func (s *Store) each(f func(digest string, info fs.FileInfo) error) error {
	return filepath.WalkDir(s.opts.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == s.uploads() {
			return fs.SkipDir
		}
		hex, ok := strings.CutSuffix(d.Name(), suffix)
		if digest := "sha256:" + hex; ok && protocol.CheckDigest(digest) == nil {
			info, err := d.Info()
			if err != nil {
				return err
			}
			return f(digest, info)
		}
		return nil
	})
}

// uploads is the folder of what is not complete yet.
func (s *Store) uploads() string { return filepath.Join(s.opts.Dir, "uploads") }

// path is a blob's file, in one of 256 folders.
func (s *Store) path(digest string) (string, error) {
	if err := protocol.CheckDigest(digest); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(s.opts.Dir, hex[:2], hex+suffix), nil
}

package blobs

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Put stores what the gzip stream content contains under its digest. A blob
// that is there already stays as it is.
func (s *Store) Put(ctx context.Context, digest string, content io.Reader) error {
	file, err := s.path(digest)
	if err != nil {
		return err
	}
	if err := s.put(ctx, digest, file, content); err != nil {
		return fmt.Errorf("store blob %s: %w", digest, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, digest, file string, content io.Reader) (err error) {
	tmp, err := os.CreateTemp(s.uploads(), "upload-")
	if err != nil {
		return err
	}
	u := &upload{ctx: ctx, in: content, out: tmp, store: s}
	defer func() {
		if err != nil {
			s.release(u.written)
			// The folder is cleared at the next start at the latest.
			_ = os.Remove(tmp.Name())
		}
	}()
	err = s.verify(digest, u)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return s.keep(tmp.Name(), file, u.written)
}

// verify reads the upload to its end and compares the digest of what it
// contains.
func (s *Store) verify(digest string, u *upload) error {
	plain, err := gzip.NewReader(u)
	if err != nil {
		return u.blame(err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(plain, s.opts.MaxBlob+1))
	if err != nil {
		return u.blame(err)
	}
	if n > s.opts.MaxBlob {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.opts.MaxBlob)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != digest {
		return fmt.Errorf("%w: it is %s: did a file change while it was sent?", ErrMismatch, got)
	}
	return nil
}

// keep moves a complete upload to its place. The lock keeps two uploads of the
// same content from being counted twice.
func (s *Store) keep(tmp, file string, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(file); err == nil {
		s.used -= size
		return os.Remove(tmp)
	}
	dir := filepath.Dir(file)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(s.opts.Dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a folder survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// reserve takes n bytes of the store's size.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > s.opts.MaxBytes {
		return fmt.Errorf("%w: %d of %d bytes are in use", ErrFull, s.used, s.opts.MaxBytes)
	}
	s.used += n
	return nil
}

// release gives n bytes of the store's size back.
func (s *Store) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// upload writes the compressed stream to disk as it is read.
type upload struct {
	ctx     context.Context
	in      io.Reader
	out     io.Writer
	store   *Store
	written int64
	failed  error // what was not the stream's fault
}

func (u *upload) Read(p []byte) (int, error) {
	if u.failed = u.ctx.Err(); u.failed != nil {
		return 0, u.failed
	}
	n, err := u.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.failed = err
	}
	if u.failed == nil {
		u.failed = u.write(p[:n])
	}
	if u.failed != nil {
		return 0, u.failed
	}
	return n, err
}

func (u *upload) write(p []byte) error {
	if err := u.store.reserve(int64(len(p))); err != nil {
		return err
	}
	u.written += int64(len(p))
	_, err := u.out.Write(p)
	return err
}

// blame says whose fault an error of decompression is.
func (u *upload) blame(err error) error {
	if u.failed != nil {
		return u.failed
	}
	return fmt.Errorf("%w: %w", ErrEncoding, err)
}

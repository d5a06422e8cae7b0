package snapshot

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// entryOverhead bounds what one entry may take in the stream besides its
// content: headers, a long name, padding.
const entryOverhead = 16 << 10

// Unpack writes the tar that r yields into the folder dir, which must exist
// and be empty. It fails unless the stream's bytes have the digest; an empty
// one is not compared. Files and folders get the widest permissions that the
// process's umask allows; of the stream's it keeps whether a file may be executed.
func Unpack(ctx context.Context, r io.Reader, dir, digest string, limits Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack snapshot: %w", err)
	}
	defer root.Close()

	limits = limits.OrDefault()
	sum := sha256.New()
	stream := &bounded{ctx: ctx, r: io.TeeReader(r, sum), left: limits.Bytes + int64(limits.Files)*entryOverhead}
	u := unpacker{root: root, in: tar.NewReader(stream), limits: limits, seen: map[string]bool{".": true}}
	if err := u.run(); err != nil {
		return fmt.Errorf("unpack snapshot: %w", err)
	}
	// What follows the archive's end belongs to the digest.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("unpack snapshot: %w", err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); digest != "" && got != digest {
		return fmt.Errorf("unpack snapshot: what arrived has the digest %s, wanted was %s: it was altered or cut on its way", got, digest)
	}
	return nil
}

// bounded reads r until ctx is done or too much was read.
type bounded struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("the stream does not end within the limits of a snapshot")
	}
	return n, err
}

// unpacker writes the entries of one archive.
type unpacker struct {
	root   *os.Root
	in     *tar.Reader
	limits Limits
	// seen are the entries made so far; true for folders. Each is made once,
	// and only in a folder that is one, so that no symlink leads astray.
	seen  map[string]bool
	bytes int64
}

func (u *unpacker) run() error {
	for {
		header, err := u.in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(header); err != nil {
			return fmt.Errorf("entry %.200q: %w", header.Name, err)
		}
	}
}

// entry makes what one header describes.
func (u *unpacker) entry(header *tar.Header) error {
	name := strings.TrimSuffix(header.Name, "/")
	if err := checkName(name); err != nil {
		return err
	}
	if _, again := u.seen[name]; again {
		return errors.New("is in the archive twice")
	}
	if err := u.parents(path.Dir(name)); err != nil {
		return err
	}
	if err := u.see(name, header.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg:
		return u.file(name, header.FileInfo().Mode())
	case tar.TypeDir:
		return u.root.Mkdir(name, 0o777)
	case tar.TypeSymlink:
		target, err := Link(name, header.Linkname)
		if err != nil {
			return err
		}
		return u.root.Symlink(target, name)
	}
	return fmt.Errorf("is of type %q; only files, folders and symlinks are allowed", header.Typeflag)
}

// parents makes the folders of an entry that have no entry of their own.
func (u *unpacker) parents(dir string) error {
	isDir, made := u.seen[dir]
	if made && !isDir {
		return fmt.Errorf("lies in %q, which is no folder", dir)
	}
	if made {
		return nil
	}
	if err := u.parents(path.Dir(dir)); err != nil {
		return err
	}
	if err := u.see(dir, true); err != nil {
		return err
	}
	return u.root.Mkdir(dir, 0o777)
}

// see counts what is about to be made.
func (u *unpacker) see(name string, isDir bool) error {
	if len(u.seen) > u.limits.Files { // the root is in it
		return fmt.Errorf("more than %d files", u.limits.Files)
	}
	u.seen[name] = isDir
	return nil
}

// file writes the content of a file.
func (u *unpacker) file(name string, mode fs.FileMode) (err error) {
	perm := fs.FileMode(0o666)
	if mode&0o111 != 0 {
		perm = 0o777
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The size in a header may lie: count what is there.
	n, err := io.Copy(f, io.LimitReader(u.in, u.limits.Bytes-u.bytes+1))
	if u.bytes += n; u.bytes > u.limits.Bytes {
		return fmt.Errorf("the files are larger than %d bytes together", u.limits.Bytes)
	}
	return err
}

package pack

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
	"time"
)

// Digest is "sha256:" and the digest, in hexadecimal, of what Write writes.
func (f *Folder) Digest(ctx context.Context) (string, error) {
	sum := sha256.New()
	if err := f.Write(ctx, sum); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Write writes the folder as a plain tar.
func (f *Folder) Write(ctx context.Context, w io.Writer) error {
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("pack %s: %w", f.dir, err)
	}
	defer root.Close()

	out := tar.NewWriter(w)
	p := &progress{ctx: ctx, total: f.bytes, tell: f.opts.Progress}
	for _, e := range f.entries {
		if err := p.ctx.Err(); err != nil {
			return fmt.Errorf("pack %s: %w", f.dir, err)
		}
		if err := write(out, root, e, p); err != nil {
			return fmt.Errorf("pack %s: %q: %w", f.dir, e.name, err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("pack %s: %w", f.dir, err)
	}
	return nil
}

// write writes one entry.
func write(out *tar.Writer, root *os.Root, e entry, p *progress) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: e.size, ModTime: time.Unix(0, 0)}
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, e.name+"/", 0o755
	case e.mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.target, 0o777
	case e.mode&0o111 != 0:
		header.Mode = 0o755
	}
	if err := out.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
		return err
	}
	file, err := root.Open(e.name)
	if err != nil {
		return err
	}
	defer file.Close()

	// One byte more than there should be would show that it has grown.
	n, err := io.Copy(out, io.TeeReader(io.LimitReader(file, e.size+1), p))
	if n != e.size || errors.Is(err, tar.ErrWriteTooLong) {
		return errors.Join(errors.New("its size changed while it was packed: try again"), err)
	}
	return err
}

// progress counts what is read, and ends the reading when ctx is done.
type progress struct {
	ctx         context.Context
	done, total int64
	tell        func(done, total int64)
}

func (p *progress) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	p.done += int64(len(b))
	p.tell(p.done, p.total)
	return len(b), nil
}

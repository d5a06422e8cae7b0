// Package pack makes a snapshot of a folder of code.
//
// The same content makes the same bytes, wherever and whenever it is packed:
// entries are sorted, times and owners left out, of permissions only whether a
// file may be executed is kept. Left out is what the folder's ignore files
// say: .amlignore where the folder has one, else .gitignore, in the syntax of
// gitignore, those of sub-folders included; and any .git. What cannot travel,
// such as a symlink that leads out of the folder, is an error that names it.
//
// A folder is read twice, once for the digest and once to be sent, so its
// content never has to fit into memory or be stored a second time. A file that
// changes meanwhile is an error.
package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/trainrelay/trainrelay/internal/snapshot"
)

// Options of packing.
type Options struct {
	Limits snapshot.Limits
	// Progress is told how many bytes of the files' content were read, of how
	// many, while Digest and Write run; often, so it must be quick. May be nil.
	Progress func(done, total int64)
}

// Folder is a folder as it will be packed.
type Folder struct {
	dir     string
	opts    Options
	entries []entry
	bytes   int64
}

// entry is one file, folder or symlink.
type entry struct {
	name   string // slash-separated, relative to the folder
	mode   fs.FileMode
	size   int64
	target string // of a symlink
}

// Open looks through the folder and decides what is packed.
func Open(ctx context.Context, dir string, opts Options) (*Folder, error) {
	opts.Limits = opts.Limits.OrDefault()
	if opts.Progress == nil {
		opts.Progress = func(int64, int64) {}
	}
	f := &Folder{dir: dir, opts: opts}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("pack %s: not a folder: name the folder that the file is in", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	defer root.Close()

	ignored, err := newIgnore(root)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(ctx.Err(), err); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		if ignored.match(name, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			if err := ignored.enter(name); err != nil {
				return err
			}
		}
		return f.add(root, name, d)
	})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	return f, nil
}

// add takes one entry in.
func (f *Folder) add(root *os.Root, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	e := entry{name: name, mode: info.Mode()}
	switch info.Mode().Type() {
	case 0:
		e.size = info.Size()
	case fs.ModeDir:
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		if err != nil {
			return err
		}
		if e.target, err = snapshot.Link(name, target); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is neither file, folder nor symlink: remove it or add it to .amlignore", name)
	}
	f.entries = append(f.entries, e)
	if n := f.opts.Limits.Files; len(f.entries) > n {
		return fmt.Errorf("more than %d files: add what the job does not need to .amlignore", n)
	}
	if f.bytes += e.size; f.bytes > f.opts.Limits.Bytes {
		return fmt.Errorf("more than %d bytes (at %q): add what the job does not need to .amlignore", f.opts.Limits.Bytes, name)
	}
	return nil
}

// Files is the number of files, folders and symlinks.
func (f *Folder) Files() int { return len(f.entries) }

// Bytes is the size of the files' content.
func (f *Folder) Bytes() int64 { return f.bytes }

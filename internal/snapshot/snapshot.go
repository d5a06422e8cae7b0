// Package snapshot is the form in which a folder of code travels: a plain tar
// of files, folders and symlinks that stay inside it, named by the SHA-256 of
// its bytes. Package pack makes one; Unpack turns it back into a folder.
//
// Unpack is for streams of unknown making. It writes nothing outside the
// folder, makes nothing but files, folders and symlinks that lead inside, and
// stops at its limits; its memory does not grow with the stream. An error names
// the entry; what was written until then stays. The package links only the
// standard library, for it runs in users' pods.
package snapshot

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// DefaultFiles is how many entries a snapshot may have where nothing else is
// said.
const DefaultFiles = 100_000

// Limits of a snapshot. A field that is zero stands for its default.
type Limits struct {
	Bytes int64 // of content; by default protocol.MaxSnapshotSize
	Files int   // entries: files, folders and symlinks; by default DefaultFiles
}

// OrDefault fills in what is zero.
func (l Limits) OrDefault() Limits {
	if l.Bytes == 0 {
		l.Bytes = protocol.MaxSnapshotSize
	}
	if l.Files == 0 {
		l.Files = DefaultFiles
	}
	return l
}

// Link returns the target of the symlink name in its shortest form, or why it
// may not be in a snapshot. A target leads up first and then only down, so that
// no symlink on its way can take it out of the folder.
func Link(name, target string) (string, error) {
	if path.IsAbs(target) || strings.ContainsRune(target, 0) || target == "" {
		return "", fmt.Errorf("symlink %q → %q: only relative targets inside the folder are allowed", name, target)
	}
	var parts []string
	up := strings.Count(name, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if up--; up < 0 {
				return "", fmt.Errorf("symlink %q → %q: it leads out of the folder", name, target)
			}
			if len(parts) > 0 && parts[len(parts)-1] != ".." {
				return "", fmt.Errorf("symlink %q → %q: .. after another name is not allowed: write it shorter", name, target)
			}
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// checkName says what is wrong with the name of an entry, in the form without
// the slash behind folders.
func checkName(name string) error {
	if name == "" || len(name) > 4096 || path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		return errors.New("its name does not stay inside the folder")
	}
	return nil
}

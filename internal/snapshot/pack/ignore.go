package pack

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// maxIgnoreFile bounds what is read of one ignore file, in bytes.
const maxIgnoreFile = 1 << 20

// ignore knows what the folder's ignore files leave out.
type ignore struct {
	root     *os.Root
	file     string // their name; empty for none
	patterns []gitignore.Pattern
}

// newIgnore reads the ignore file of the folder itself.
func newIgnore(root *os.Root) (*ignore, error) {
	i := &ignore{root: root}
	for _, name := range []string{".amlignore", ".gitignore"} {
		if _, err := root.Stat(name); err == nil {
			i.file = name
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return i, i.enter(".")
}

// enter reads the ignore file of a folder that is being walked into. Later
// patterns are the stronger ones, and apply below their folder only.
func (i *ignore) enter(dir string) error {
	if i.file == "" {
		return nil
	}
	name := path.Join(dir, i.file)
	info, err := i.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxIgnoreFile {
		return fmt.Errorf("%s: not a file of at most %d bytes", name, maxIgnoreFile)
	}
	f, err := i.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()

	var domain []string
	if dir != "." {
		domain = strings.Split(dir, "/")
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxIgnoreFile)
	for n := 0; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if n == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i.patterns = append(i.patterns, gitignore.ParsePattern(line, domain))
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// match reports whether an entry is left out. What lies in a folder that is
// left out is never asked for, and so cannot be taken back in.
func (i *ignore) match(name string, isDir bool) bool {
	parts := strings.Split(name, "/")
	if parts[len(parts)-1] == ".git" {
		return true
	}
	for _, p := range slices.Backward(i.patterns) {
		if result := p.Match(parts, isDir); result != gitignore.NoMatch {
			return result == gitignore.Exclude
		}
	}
	return false
}

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroups = "/sys/fs/cgroup"

// MkdirAll makes a folder and its parents anywhere on this machine. Those that
// were not there before are removed again, unless somebody put something in.
func (h *Host) MkdirAll(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := h.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if err := h.journal.add(entry{Kind: madeFolder, Name: path}); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// SaveSysctls records settings, such as vm/overcommit_memory, that a process is
// going to change. One that this kernel does not have is left out.
func (h *Host) SaveSysctls(names ...string) error {
	for _, name := range names {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if errors.Is(err, fs.ErrNotExist) || h.journal.has(setSysctl, name) {
			continue
		}
		if err != nil {
			return err
		}
		if err := h.journal.add(entry{Kind: setSysctl, Name: name, Value: string(value)}); err != nil {
			return err
		}
	}
	return nil
}

// AddCgroup makes a cgroup below the root of every hierarchy, with the
// controllers that containers need.
func (h *Host) AddCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			return fmt.Errorf("cgroup %s exists already: another cluster uses it", filepath.Join(root, name))
		}
	}
	if err := h.journal.add(entry{Kind: madeCgroup, Name: name}); err != nil {
		return err
	}
	for _, root := range roots {
		if err := h.enableControllers(root); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
		// In cgroup v1 a new cpuset is empty, and nothing runs in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // not the cpuset hierarchy
			}
			if err := os.WriteFile(filepath.Join(root, name, file), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// enableControllers lets the cgroups below the root of a cgroup v2 hierarchy
// have the controllers that containers need.
func (h *Host) enableControllers(root string) error {
	there, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // cgroup v1
	}
	if err != nil {
		return err
	}
	control := filepath.Join(root, "cgroup.subtree_control")
	enabled, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	for _, controller := range []string{"cpuset", "cpu", "memory", "pids", "io"} {
		if !hasWord(string(there), controller) || hasWord(string(enabled), controller) {
			continue
		}
		if err := h.journal.add(entry{Kind: setController, Name: controller, Value: control}); err != nil {
			return err
		}
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("enable the %s controller: %w", controller, err)
		}
	}
	return nil
}

func hasWord(text, word string) bool {
	for field := range strings.FieldsSeq(text) {
		if field == word {
			return true
		}
	}
	return false
}

// hierarchies returns the roots of the cgroup hierarchies: one for cgroup v2,
// one a controller for cgroup v1.
func hierarchies() ([]string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroups, &fs); err != nil {
		return nil, fmt.Errorf("%s: %w", cgroups, err)
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroups}, nil
	}
	folders, err := os.ReadDir(cgroups)
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, folder := range folders {
		if folder.IsDir() { // not the links, such as cpu → cpu,cpuacct
			roots = append(roots, filepath.Join(cgroups, folder.Name()))
		}
	}
	return roots, nil
}

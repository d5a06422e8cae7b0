package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take to let go of everything.
const patience = 40 * time.Second

// undo takes back what the journal tells of, in the order in which it lets go:
// processes hold namespaces and cgroups, namespaces hold devices.
func undo(ctx context.Context, dir string, j *journal) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	add(killAll(ctx, j))
	for _, e := range j.all(madeNamespace) {
		add(removeNamespace(e.Name))
	}
	for _, e := range j.all(madeDevice) {
		add(removeDevice(e.Name, dir))
	}
	for _, e := range j.all(madeCgroup) {
		add(removeCgroup(ctx, e.Name))
	}
	for _, e := range j.all(setController) {
		add(restore(e.Value, "-"+e.Name))
	}
	for _, e := range j.all(setSysctl) {
		add(restoreSysctl(e))
	}
	for _, e := range j.all(madeFolder) {
		add(removeFolder(e.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// The journal keeps its first line: the folder stays known as a cluster's.
	j.entries = j.entries[:min(1, len(j.entries))]
	return j.rewrite()
}

// killAll kills the recorded processes and then what carries the host's mark
// without being recorded.
func killAll(ctx context.Context, j *journal) error {
	var processes []*Process
	for _, e := range j.all(madeProcess) {
		processes = append(processes, &Process{name: e.Name, pid: e.PID, started: e.Value})
	}
	if err := kill(ctx, processes); err != nil {
		return err
	}
	processes, err := marked(j.id())
	if err != nil {
		return err
	}
	return kill(ctx, processes)
}

func kill(ctx context.Context, processes []*Process) error {
	var errs []error
	for _, p := range processes { // all at once, then wait for each
		errs = append(errs, p.signal(unix.SIGKILL))
	}
	for _, p := range processes {
		errs = append(errs, p.Wait(ctx))
	}
	return errors.Join(errs...)
}

func removeNamespace(name string) error {
	err := netns.DeleteNamed(name)
	switch {
	case errors.Is(err, unix.EINVAL): // killed before it was mounted on its file
		err = os.Remove(filepath.Join(namespaces, name))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// removeDevice removes a device unless it has become somebody else's.
func removeDevice(name, dir string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("network device %s: %w", name, err)
	}
	if alias := link.Attrs().Alias; alias != "" && alias != dir {
		return nil
	}
	// A cable goes by itself with the namespace at its end, perhaps just now.
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove network device %s: %w", name, err)
	}
	return nil
}

// removeCgroup removes a cgroup and those below it from all hierarchies. The
// kernel calls one busy for a moment after its last process has ended.
func removeCgroup(ctx context.Context, name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		remove := func() error { return removeTree(filepath.Join(root, name)) }
		errs = append(errs, backoff.Retry(remove, backoff.WithContext(backoff.NewExponentialBackOff(), ctx)))
	}
	return errors.Join(errs...)
}

// removeTree removes folders from the leaves up; the files of a cgroup need not
// and cannot be removed.
func removeTree(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		if err := unix.Rmdir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", folder, err)
		}
	}
	return nil
}

func restoreSysctl(e entry) error { return restore(filepath.Join("/proc/sys", e.Name), e.Value) }

func restore(file, value string) error {
	now, err := os.ReadFile(file)
	if err != nil || string(now) == value {
		return err
	}
	return os.WriteFile(file, []byte(value), 0o644)
}

// removeFolder removes a folder unless somebody else has put something in.
func removeFolder(path string) error {
	err := os.Remove(path)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// empty removes what is in a host's folder, unless something is mounted there:
// removing would then reach other file systems.
func empty(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			return fmt.Errorf("%s is still mounted: unmount it", fields[4])
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.Name() == journalName {
			defer os.Remove(filepath.Join(dir, journalName)) // last: with it the folder is known as ours
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, file.Name())); err != nil {
			return err
		}
	}
	return nil
}

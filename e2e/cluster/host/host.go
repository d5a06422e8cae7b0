// Package host changes this machine for a test cluster and takes every change
// back: processes, network devices and namespaces, cgroups, sysctls, folders.
//
// A Host is a state folder with a journal in it. What is about to be made is
// written there first, so that Undo, called by the owner or, when the owner was
// killed, by anybody later, finds all of it. A process is recorded with the time
// it started and is never mistaken for another that got its number; one that was
// started but not yet recorded is known by a mark in its environment.
//
// Undo goes on where it fails and returns all errors together; the journal then
// stays, and Undo may be called again.
package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

const (
	journalName = "journal"
	mark        = "TRAINRELAY_HOST" // in the environment of every process started
)

// Host is what one state folder has made on this machine. It may be used by
// several goroutines.
type Host struct {
	dir     string
	id      string
	journal *journal
	lock    *os.File

	mu        sync.Mutex
	processes map[string]*Process
}

// Create takes back what an earlier owner of the folder made and left, empties
// the folder and owns it until Release or the end of this process. A folder
// that another process owns, or that holds anything else, is refused.
func Create(ctx context.Context, dir string) (*Host, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := own(dir)
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir, id: rand.Text(), lock: lock, processes: map[string]*Process{}}
	if err := h.start(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return h, nil
}

func (h *Host) start(ctx context.Context) error {
	old, err := readJournal(h.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		files, err := os.ReadDir(h.dir)
		if err != nil {
			return err
		}
		if len(files) > 0 {
			return fmt.Errorf("%s holds files that are not a cluster's: choose a new or empty folder", h.dir)
		}
	case err != nil:
		return err
	default:
		if err := undo(ctx, h.dir, old); err != nil {
			return fmt.Errorf("take back what an earlier cluster in %s left: %w", h.dir, err)
		}
		if err := empty(h.dir); err != nil {
			return err
		}
	}
	h.journal = &journal{file: filepath.Join(h.dir, journalName)}
	return h.journal.add(entry{Kind: madeHost, Name: h.id, PID: os.Getpid()})
}

// Open returns the host that another process made and released, or is still
// using, to look at its processes and to act on them. It owns nothing.
func Open(dir string) (*Host, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	j, err := readJournal(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no cluster in %s: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir, id: j.id(), journal: j, processes: map[string]*Process{}}
	for _, e := range j.entries {
		if e.Kind == madeProcess {
			h.processes[e.Name] = &Process{name: e.Name, pid: e.PID, started: e.Value}
		}
	}
	return h, nil
}

// Release gives up the ownership, so that what was made may outlive this
// process: only processes started with Detach do.
func (h *Host) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	lock := h.lock
	h.lock = nil
	if lock == nil {
		return nil
	}
	return lock.Close()
}

// Undo takes back all that the host made on this machine, unless somebody did
// before. The files in its folder stay, for whoever looks for what went wrong.
func (h *Host) Undo(ctx context.Context) error {
	// The file tells, not the memory: names may be another host's by now.
	j, err := readJournal(h.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && j.id() != h.id:
	case err != nil:
		return err
	default:
		if err := undo(ctx, h.dir, j); err != nil {
			return err
		}
	}
	h.mu.Lock()
	for _, p := range h.processes {
		if p.done != nil {
			<-p.done // dead already: its goroutine is about to end
		}
	}
	clear(h.processes)
	h.mu.Unlock()
	return h.Release()
}

// Remove takes back what the host of the folder made and removes the folder,
// unless another living process owns it. It does nothing when there is no such
// folder.
func Remove(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	j, err := readJournal(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("%s is not a cluster's folder: it is left alone", dir)
	}
	if err != nil {
		return err
	}
	lock, err := own(dir)
	if busy := (*inUse)(nil); errors.As(err, &busy) && busy.owner == os.Getpid() {
		lock, err = nil, nil // by its owner
	}
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	if err := undo(ctx, dir, j); err != nil {
		return err
	}
	if err := empty(dir); err != nil {
		return err
	}
	return os.Remove(dir)
}

// inUse says that a folder has an owner, who is alive.
type inUse struct {
	dir   string
	owner int // process number, 0 when it is unknown
}

func (e *inUse) Error() string {
	return fmt.Sprintf("%s is in use by process %d: end that first", e.dir, e.owner)
}

// InUse reports whether an error is that a folder has an owner, who is alive.
func InUse(err error) bool {
	busy := (*inUse)(nil)
	return errors.As(err, &busy)
}

// own locks the folder; the kernel gives the lock back when its owner dies.
func own(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		busy := &inUse{dir: dir}
		if j, err := readJournal(dir); err == nil && len(j.entries) > 0 {
			busy.owner = j.entries[0].PID
		}
		return nil, errors.Join(busy, f.Close())
	}
	return f, nil
}

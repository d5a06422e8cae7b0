package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one process that a host started, perhaps in another life.
type Process struct {
	name    string
	pid     int
	started string        // see startOf
	done    chan struct{} // closed when it has ended; nil when it is not our child
}

// Process returns the newest process of that name, or nil when there was none.
func (h *Host) Process(name string) *Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.processes[name]
}

// PID is the process's number, as this machine's own PID namespace has it.
func (p *Process) PID() int { return p.pid }

// Alive reports whether the process is still there.
func (p *Process) Alive() bool {
	started, ended, err := startOf(p.pid)
	return err == nil && !ended && started == p.started
}

// Kill ends the process at once, with all of its PID namespace when it is the
// first in one, and waits until it is gone. Killing a dead process is no error.
func (p *Process) Kill(ctx context.Context) error {
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// Stop asks the process to end, and kills it when the context ends before it.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	if p.Wait(ctx) == nil {
		return nil
	}
	return p.Kill(context.WithoutCancel(ctx))
}

// Pause stops the process where it is; it does nothing until Resume.
func (p *Process) Pause() error { return p.signal(unix.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal(unix.SIGCONT) }

// Wait returns nil when the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	if p.done != nil {
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of %s: %w", p.name, ctx.Err())
		}
	}
	fd, err := p.open()
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the end of %s: %w", p.name, err)
		}
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("wait for the end of %s: %w", p.name, ctx.Err())
}

func (p *Process) signal(signal unix.Signal) error {
	fd, err := p.open()
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to %s, process %d: %w", signal, p.name, p.pid, err)
	}
	return nil
}

// open returns a descriptor that stands for this very process, or -1 when it is
// gone. The number may be another's by now: that is looked at after the
// descriptor is open, from when on it cannot change any more.
func (p *Process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open %s, process %d: %w", p.name, p.pid, err)
	}
	if !p.Alive() {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// startOf says when a process started: the boot's id and the clock ticks since.
// Together with its number this names a process for good. A process that has
// ended may still be there until its parent notices.
func startOf(pid int) (started string, ended bool, err error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false, err
	}
	// The second field, a name in parentheses, may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return "", false, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	state, ticks := fields[0], fields[19]
	return strings.TrimSpace(string(boot)) + "/" + ticks, state == "Z" || state == "X", nil
}

// marked returns the processes that carry the host's mark.
func marked(id string) ([]*Process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var found []*Process
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !hasMark(environ, id) {
			continue // gone, or not ours
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err != nil {
			return nil, err
		}
		if started, ended, err := startOf(pid); err == nil && !ended && pid != os.Getpid() {
			found = append(found, &Process{name: "unrecorded", pid: pid, started: started})
		}
	}
	return found, nil
}

func hasMark(environ []byte, id string) bool {
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if string(variable) == mark+"="+id {
			return id != ""
		}
	}
	return false
}

// Tail returns the last lines of a log, for an error to show.
func Tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, 2); err == nil {
		f.Seek(max(0, end-4096), 0)
	}
	var lines []string
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

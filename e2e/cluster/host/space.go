package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Space says in which namespaces a process runs. The zero Space is this
// process's own.
type Space struct {
	Net string // name of a network namespace, as `ip netns` lists it
	PID int    // process whose mount and PID namespaces it shares
}

// enter moves the calling thread, one of onThread's: it cannot be used for
// anything else afterwards.
func (s Space) enter() error {
	if s.Net != "" {
		ns, err := netns.GetFromName(s.Net)
		if err != nil {
			return fmt.Errorf("network namespace %s: %w", s.Net, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", s.Net, err)
		}
	}
	if s.PID == 0 {
		return nil
	}
	process, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return fmt.Errorf("process %d, whose namespaces are to be shared: %w", s.PID, err)
	}
	defer unix.Close(process)
	// A thread that shares its working directory with others cannot change its
	// mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the shared working directory: %w", err)
	}
	if err := unix.Setns(process, unix.CLONE_NEWNS|unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("enter the namespaces of process %d: %w", s.PID, err)
	}
	return nil
}

// onThread runs a function on a thread of its own, which ends with it. The main
// thread cannot end: it would keep the namespaces it has entered, and /proc/self
// of this process would tell of them. So another is found for the function.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f() // the lock is never undone: the thread ends with this goroutine
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// Exec runs a command to its end in a space and returns what it wrote to its
// standard output. The error carries what it wrote to standard error.
func Exec(ctx context.Context, in Space, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	done := make(chan error, 1)
	onThread(func() {
		if err := in.enter(); err != nil {
			done <- err
			return
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		done <- cmd.Run()
	})
	err := <-done
	if err == nil {
		return stdout.Bytes(), nil
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		err = errors.Join(err, errors.New(text))
	}
	return stdout.Bytes(), fmt.Errorf("%s: %w", strings.Join(args, " "), err)
}

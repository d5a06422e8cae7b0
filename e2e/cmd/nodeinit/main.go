// Command nodeinit is the first process of a node: started in new mount and PID
// namespaces and in the node's network, it gives the node its own mounts, says
// so on file descriptor 3, and collects the node's zombies. When it is killed,
// the kernel ends all that runs on the node.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"
)

type node struct {
	ResolvConf string            `help:"File that becomes the node's /etc/resolv.conf." required:""`
	Bind       map[string]string `help:"Folder of the node and the place where the node sees it." mapsep:"none"`
}

func main() {
	var n node
	kong.Parse(&n)
	if err := n.setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "nodeinit:", err)
		os.Exit(1)
	}
	reap()
}

func (n *node) setUp() error {
	// Private first, so that nothing mounted here is seen outside; then shared
	// among the node's own namespaces, as kubelet and containers need it.
	for _, propagation := range []uintptr{syscall.MS_PRIVATE, syscall.MS_SHARED} {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("change how mounts spread: %w", err)
		}
	}
	const plain = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	if err := syscall.Mount("proc", "/proc", "proc", plain, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for from, to := range n.Bind {
		if err := bind(from, to); err != nil {
			return err
		}
	}
	if err := n.bindResolvConf(); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	if _, err := ready.WriteString("ready"); err != nil {
		return fmt.Errorf("say that the node is ready: %w", err)
	}
	return ready.Close()
}

// bindResolvConf replaces the file, which may be a link into the /run that has
// just become empty.
func (n *node) bindResolvConf() error {
	const file = "/etc/resolv.conf"
	if target, err := os.Readlink(file); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(target, nil, 0o644); err != nil {
				return err
			}
		}
	}
	return bind(n.ResolvConf, file)
}

func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("put %s at %s: %w", from, to, err)
	}
	return nil
}

// reap collects the processes that outlived their parents, for ever.
func reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for range children {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
}

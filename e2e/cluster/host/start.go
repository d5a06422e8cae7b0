package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Command says what process to start and where.
type Command struct {
	Name  string   // unique among the host's live processes, such as "etcd" or "node1/kubelet"
	Args  []string // program, by its path, and its arguments
	Env   []string // added to PATH and HOME; nothing is inherited from this process
	Dir   string   // working directory; the host's folder when empty
	Log   string   // file that its output is appended to
	In    Space
	First bool // make it the first process of new mount and PID namespaces

	// Notify makes Start wait until the process has written to its file
	// descriptor 3, which it does when it is ready.
	Notify bool
	// Detach lets the process outlive this one; otherwise the kernel kills it
	// when this one dies, however it dies.
	Detach bool
}

// Path is the PATH of every process that does not get another.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts a process and records it. The context bounds the wait that
// Notify asks for, not the process's life.
func (h *Host) Start(ctx context.Context, c Command) (*Process, error) {
	if p := h.Process(c.Name); p != nil && p.Alive() {
		return nil, fmt.Errorf("start %s: it runs already, as process %d", c.Name, p.pid)
	}
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ready, notify, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()

	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	if cmd.Dir == "" {
		cmd.Dir = h.dir
	}
	cmd.Env = append([]string{
		mark + "=" + h.id, "HOME=/root",
		"PATH=" + Path,
	}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.First {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	}
	// In another's PID namespace a process dies with the first one there. Nor could
	// it have the signal: it sees no parent and takes it for dead already.
	if !c.Detach && c.In.PID == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if c.Notify {
		cmd.ExtraFiles = []*os.File{notify}
	}
	p := &Process{name: c.Name, done: make(chan struct{})}
	spawned, recorded := make(chan error, 1), make(chan struct{})
	onThread(func() { p.run(cmd, c.In, spawned, recorded) })
	err = <-spawned
	notify.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	err = h.record(p)
	close(recorded)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.Name, err), p.Kill(ctx))
	}
	if c.Notify {
		if err := p.waitReady(ctx, ready); err != nil {
			return nil, fmt.Errorf("start %s: %w; the end of %s:\n%s", c.Name, err, c.Log, Tail(c.Log))
		}
	}
	return p, nil
}

// run starts the process, lets it be recorded, and waits for its end. It has a
// thread of its own to the end: when that dies, the kernel sends the death signal.
func (p *Process) run(cmd *exec.Cmd, in Space, spawned chan<- error, recorded <-chan struct{}) {
	defer close(p.done)
	err := in.enter()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	spawned <- err
	if err != nil {
		return
	}
	<-recorded     // until it is waited for, its number is not another's
	_ = cmd.Wait() // how it ended is in its log; that it ended is what counts here
}

func (h *Host) record(p *Process) error {
	var err error
	if p.started, _, err = startOf(p.pid); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes[p.name] = p
	return h.journal.add(entry{Kind: madeProcess, Name: p.name, PID: p.pid, Value: p.started})
}

// waitReady reads the process's word that it is ready.
func (p *Process) waitReady(ctx context.Context, ready *os.File) error {
	stop := context.AfterFunc(ctx, func() { ready.Close() })
	defer stop()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("wait until it is ready: %w", ctx.Err())
		}
		return errors.New("it ended before it was ready")
	}
	return nil
}

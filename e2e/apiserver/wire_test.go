package apiserver

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire carries an agent's connections to the relay, and can fail as networks
// do: cut, or swallow what the relay answers.
type wire struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex
	muted bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	w.running.Go(w.accept)
	t.Cleanup(func() {
		listener.Close()
		w.cut()
		w.running.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			near.Close()
			continue
		}
		w.mu.Lock()
		w.conns[near], w.conns[far] = true, true
		w.mu.Unlock()
		w.running.Go(func() { w.carry(far, near, false) })
		w.running.Go(func() { w.carry(near, far, true) })
	}
}

// carry copies until either side is gone. Of answers, it drops those that come
// while the wire is muted.
func (w *wire) carry(to io.WriteCloser, from io.ReadCloser, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		drop := answers && w.muted
		w.mu.Unlock()
		if !drop && n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// mute swallows answers from now on; the requests still arrive.
func (w *wire) mute() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = true
}

// cut ends all connections. New ones are as good as ever.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = false
	for conn := range w.conns {
		conn.Close()
	}
	clear(w.conns)
}

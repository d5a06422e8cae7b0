package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/internal/bus"
)

// linger is how long a connection that nobody holds is kept.
const linger = 2 * time.Minute

// line is the agent's connection to the relay, which is there while somebody
// holds it: a thousand nodes without work are not a thousand connections.
type line struct {
	options bus.Options
	linger  time.Duration
	changed chan struct{} // holders came or went

	mu      sync.Mutex
	holders int
	conn    *bus.Conn
	made    chan struct{} // closed once conn is set
}

func newLine(o bus.Options) *line {
	return &line{options: o, linger: linger, changed: make(chan struct{}, 1), made: make(chan struct{})}
}

// run opens and closes the connection as needed, until ctx is done.
func (l *line) run(ctx context.Context) error {
	defer l.close()
	idle := time.NewTimer(l.linger)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
			if !l.held() {
				idle.Reset(l.linger)
				continue
			}
			idle.Stop()
			if err := l.open(ctx); err != nil && ctx.Err() == nil {
				return err // of the options: trying again would not help
			}
		case <-idle.C:
			if !l.held() {
				l.close()
			}
		}
	}
}

func (l *line) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holders > 0
}

// open makes the first attempt to connect, where there is no connection; it
// goes on trying by itself.
func (l *line) open(ctx context.Context) error {
	if _, err := l.current(); err == nil {
		return nil
	}
	conn, err := bus.Connect(ctx, l.options)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	close(l.made)
	return nil
}

func (l *line) close() {
	l.mu.Lock()
	conn := l.conn
	if conn != nil {
		l.conn, l.made = nil, make(chan struct{})
	}
	l.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

// hold keeps the line open until release is called. It returns when the first
// attempt to connect was made, successful or not.
func (l *line) hold(ctx context.Context) (release func(), err error) {
	l.count(1)
	release = sync.OnceFunc(func() { l.count(-1) })
	for {
		l.mu.Lock()
		conn, made := l.conn, l.made
		l.mu.Unlock()
		if conn != nil {
			return release, nil
		}
		select {
		case <-made:
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
}

func (l *line) count(change int) {
	l.mu.Lock()
	l.holders += change
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

var errNoLine = errors.New("the connection to the relay is not open")

func (l *line) current() (*bus.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, errNoLine
	}
	return l.conn, nil
}

// Request sends data and returns the answer.
func (l *line) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	conn, err := l.current()
	if err != nil {
		return nil, err
	}
	return conn.Request(ctx, subject, data)
}

// Subscribe calls received for every message on subject until stop is called.
func (l *line) Subscribe(subject string, received func()) (stop func(), err error) {
	conn, err := l.current()
	if err != nil {
		return nil, err
	}
	return conn.Subscribe(subject, received)
}

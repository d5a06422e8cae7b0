package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// line is the one line at the bottom of a terminal that moves while people
// wait. On anything but a terminal it is silent. Whoever writes something else
// does so within hide.
type line struct {
	w  io.Writer
	on bool

	mu    sync.Mutex
	text  string
	since time.Time
	drawn bool

	quit chan struct{}
	done sync.WaitGroup
}

func (a *app) newLine() *line {
	return &line{w: a.io.Err, on: a.io.IsTerminal(a.io.Err) && a.io.Getenv("TERM") != "dumb"}
}

// start begins to draw; stop ends it and waits.
func (l *line) start() {
	if !l.on || l.quit != nil {
		return
	}
	l.quit = make(chan struct{})
	l.done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-tick.C:
				l.draw()
			}
		}
	})
}

// stop takes the line away. It may be called again.
func (l *line) stop() {
	if l.quit == nil {
		return
	}
	close(l.quit)
	l.done.Wait()
	l.quit = nil
	l.hide(func() {})
}

// set changes what is said; nothing for no line.
func (l *line) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		l.since = time.Now()
	}
	l.text = text
}

func (l *line) draw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	if l.text == "" {
		return
	}
	text := fmt.Sprintf("%s (%s)", oneLine(l.text), time.Since(l.since).Round(time.Second))
	if r := []rune(text); len(r) > 78 {
		text = string(r[:77]) + "…"
	}
	fmt.Fprint(l.w, text)
	l.drawn = true
}

// hide takes the line away while f writes.
func (l *line) hide(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	f()
}

func (l *line) erase() {
	if l.drawn {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.drawn = false
	}
}

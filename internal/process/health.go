package process

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds the checks of one probe; a kubelet's default is shorter
// and ends the request itself.
const checkTimeout = 3 * time.Second

// Checks say whether a daemon can do its work. The zero value has none and is
// ready.
type Checks struct {
	mu     sync.Mutex
	checks []check
}

type check struct {
	name string
	fail func(context.Context) error
}

// Add adds a check: fail says why the daemon cannot do its work, or nil. It
// must return when its context is done, may be called by several goroutines at
// once, and its errors are shown to whoever may ask.
func (c *Checks) Add(name string, fail func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks = append(c.checks, check{name, fail})
}

// Ready runs the checks side by side. The report has a line for each, in the
// order they were added.
func (c *Checks) Ready(ctx context.Context) (ready bool, report string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c.mu.Lock()
	checks := slices.Clone(c.checks)
	c.mu.Unlock()

	errs := make([]error, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() { errs[i] = check.fail(ctx) })
	}
	running.Wait()

	ready = true
	var b strings.Builder
	for i, err := range errs {
		if err == nil {
			fmt.Fprintf(&b, "ok %s\n", checks[i].name)
			continue
		}
		ready = false
		fmt.Fprintf(&b, "not ready: %s: %s\n", checks[i].name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return ready, b.String()
}

// Handler serves /healthz, which says that the process lives, and /readyz,
// which is 503 while a check fails.
func (c *Checks) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, report := c.Ready(r.Context())
		if ready {
			answer(w, http.StatusOK, report+"ready\n")
			return
		}
		answer(w, http.StatusServiceUnavailable, report)
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // whoever asked may be gone
}

package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// refusals answers who is not let in, and keeps that in the audit log; both at
// a pace that nobody can turn against the relay, nor against what is written of
// others.
type refusals struct {
	answered *limit
	written  *limit // of strangers
	denied   *users // of those with a token, written as well

	mu      sync.Mutex
	skipped map[string]int // by action, since the last of it that was written
}

func newRefusals() *refusals {
	return &refusals{
		answered: newLimit(failuresEach, failuresAll, nil, time.Now),
		written:  newLimit(refusalsEach, refusalsAll, nil, time.Now),
		denied:   newUsers(refusalsEach, time.Now),
		skipped:  map[string]int{},
	}
}

// refuse answers a request without a valid token.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if bearer(r) != "" { // else nobody tried anything
		a.writeRefusal(r.Context(), "login.refused", "", err.Error())
	}
	if wait, ok := a.refusals.answered.take(r.RemoteAddr); !ok {
		slow(w, http.StatusTooManyRequests, wait, "too many requests without a valid token came from your address; with a valid one there is no limit")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="trainrelay"`)
	problem(w, http.StatusUnauthorized, oneLine(err))
}

// writeRefusal keeps a refusal in the audit log, or counts it where there are
// too many to keep. It refuses nothing itself.
func (a *API) writeRefusal(ctx context.Context, action, target, detail string) {
	t := trailOf(ctx)
	skipped, ok := a.refusals.write(action, t)
	if !ok {
		return
	}
	if skipped > 0 {
		detail += fmt.Sprintf("; %d more refusals before this one were not written", skipped)
	}
	e := v1.AuditEntry{Actor: t.actor, Role: t.role, Action: action, Target: target, Detail: detail, Remote: t.remote}
	if err := a.opts.Audit.Append(ctx, e); err != nil {
		a.opts.Log.Error().Err(err).Str("action", action).Str("from", t.remote).Msg("the audit log cannot be written")
	}
}

// write reports whether a refusal is to be written, and how many of its kind
// were not before it.
func (s *refusals) write(action string, t *trail) (skipped int, ok bool) {
	if t.actor == "" {
		_, ok = s.written.take(t.remote)
	} else {
		_, ok = s.denied.take(t.actor)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		s.skipped[action]++
		return 0, false
	}
	skipped = s.skipped[action]
	delete(s.skipped, action)
	return skipped, true
}

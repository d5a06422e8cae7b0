package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// Audit keeps who changed what.
type Audit interface {
	Append(ctx context.Context, e v1.AuditEntry) error
	List(ctx context.Context, q AuditQuery) (entries []v1.AuditEntry, next uint64, _ error)
}

// AuditQuery selects entries; an empty field selects all.
type AuditQuery struct {
	Since  time.Time
	Actor  string
	Action string
	Limit  int
	Before uint64
}

// trail is who makes a request, and what it has changed.
type trail struct {
	actor, role, remote string
	// valid says why the token is void by now; nil without a token.
	valid func() error

	mu      sync.Mutex
	entries []v1.AuditEntry
}

type trailKey struct{}

func trailOf(ctx context.Context) *trail {
	if t, ok := ctx.Value(trailKey{}).(*trail); ok {
		return t
	}
	return &trail{}
}

// audit writes down a change that the request is about to make. Where that
// fails, so must the request: a change that nobody could look up is not made.
func (a *API) audit(ctx context.Context, action, target, detail string) error {
	return a.auditAs(ctx, trailOf(ctx).actor, action, target, detail)
}

// auditAs is audit of somebody who came without a token, such as the agent of
// a cluster that joins.
func (a *API) auditAs(ctx context.Context, actor, action, target, detail string) error {
	if wait, ok := a.changes.take(actor); !ok {
		err := huma.NewError(http.StatusTooManyRequests, actor+" makes more changes than the audit log is to hold, so nothing was changed: try again in "+seconds(wait)+" s")
		return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {seconds(wait)}})
	}
	t := trailOf(ctx)
	e := v1.AuditEntry{Actor: actor, Role: t.role, Action: action, Target: target, Detail: detail, Remote: t.remote}
	if err := a.opts.Audit.Append(ctx, e); err != nil {
		a.opts.Log.Error().Err(err).Str("action", action).Msg("the audit log cannot be written; a change was refused")
		return huma.NewError(http.StatusServiceUnavailable, "the relay cannot write its audit log, so nothing was changed: try again, and see its /readyz")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries = append(t.entries, e)
	return nil
}

// lateAudit is how long the outcome of a request may take to be written when
// the request itself is over.
const lateAudit = 5 * time.Second

// trace follows requests. What was written down before it was made, and then
// failed, is followed by an entry that says so.
func (a *API) trace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &trail{remote: r.RemoteAddr}
		answer := &recorder{ResponseWriter: w}
		whole := false
		defer func() {
			switch {
			case !whole:
				a.unmade(r.Context(), t, "the request broke off, and it may not have been done")
			case answer.status >= 500:
				a.unmade(r.Context(), t, fmt.Sprintf("answered %d, and it may not have been done", answer.status))
			case answer.status >= 400:
				a.unmade(r.Context(), t, fmt.Sprintf("not done: answered %d", answer.status))
			}
		}()
		next.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), trailKey{}, t)))
		whole = true
	})
}

// unmade writes down what became of the trail's entries.
func (a *API) unmade(ctx context.Context, t *trail, outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lateAudit)
	defer cancel()
	for _, e := range t.entries {
		e.Detail = outcome
		if err := a.opts.Audit.Append(ctx, e); err != nil {
			a.opts.Log.Error().Err(err).Str("action", e.Action).Str("target", e.Target).Str("outcome", outcome).
				Msg("the audit log cannot be written; its last entry of this was not done, or may not have been")
		}
	}
}

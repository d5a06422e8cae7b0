package api

import (
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// access is who may call an operation: a role that the user's token must
// include, or one of those below.
type access v1.Role

const (
	admin       = access(v1.Admin)
	contributor = access(v1.Contributor)
	reader      = access(v1.Reader)
	anAgent     = access("agent")   // who signs with a cluster's key
	anybody     = access("anybody") // whom the operation itself looks at
)

// security is how the description says it.
func (who access) security() []map[string][]string {
	switch who {
	case anybody:
		return []map[string][]string{{}}
	case anAgent:
		return []map[string][]string{{"agent": {}}}
	}
	return []map[string][]string{{"user": {string(who)}}}
}

const accessKey = "access"

// operation describes one operation, who may call it, and the errors that it
// may have besides those of all.
func operation(who access, method, path, id, summary string, errors ...int) huma.Operation {
	errors = append([]int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable}, errors...)
	if who != anybody && who != anAgent {
		errors = append(errors, http.StatusForbidden)
		summary += " (" + string(who) + ")"
	}
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary,
		Security: who.security(), Metadata: map[string]any{accessKey: who},
		Errors: errors, MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout,
	}
}

// allow lets a request pass whose token has the role that its operation takes,
// and strangers at a pace. An operation that does not say who may call it is
// nobody's.
func (a *API) allow(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		who, said := ctx.Operation().Metadata[accessKey].(access)
		has := v1.Role(trailOf(ctx.Context()).role)
		var err error
		switch {
		case said && who == anybody:
			if wait, ok := a.enrols.take(ctx.RemoteAddr()); !ok {
				ctx.SetHeader("Retry-After", seconds(wait))
				err = huma.WriteErr(api, ctx, http.StatusTooManyRequests, "too many tries at once: try again in "+seconds(wait)+" s")
				break
			}
			next(ctx)
		case said && (who == anAgent || has.Includes(v1.Role(who))):
			next(ctx)
		default:
			detail := fmt.Sprintf("this takes the role %s, and the token %s has the role %s: ask an admin for another token", who, by(ctx.Context()), has)
			a.writeRefusal(ctx.Context(), "access.denied", ctx.Operation().OperationID, "it takes the role "+string(who))
			err = huma.WriteErr(api, ctx, http.StatusForbidden, detail)
		}
		if err != nil {
			a.opts.Log.Debug().Err(err).Msg("cannot answer")
		}
	}
}

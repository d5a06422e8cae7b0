package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/agentauth"
)

// identity is the key of a request's user or cluster in its context.
type identity struct{}

// by is who makes the request.
func by(ctx context.Context) string {
	name, _ := ctx.Value(identity{}).(string)
	return name
}

// forUsers lets in who has a user's token.
func (a *API) forUsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := a.opts.User(bearer(r))
		if err != nil {
			refuse(w, err.Error())
			return
		}
		t := trailOf(r.Context())
		t.actor, t.role = user.Name, string(user.Role)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identity{}, user.Name)))
	})
}

// forAgents lets in whose token was signed with a cluster's key.
func (a *API) forAgents(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verifier := agentauth.Verifier{Audience: a.opts.Named, Cluster: a.opts.Setup.ClusterOf, Now: time.Now()}
		cluster, err := verifier.Verify(bearer(r))
		if err != nil {
			refuse(w, err.Error())
			return
		}
		trailOf(r.Context()).actor = "agent:" + cluster
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identity{}, cluster)))
	})
}

// bearer is the request's token; empty for none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func refuse(w http.ResponseWriter, detail string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="trainrelay"`)
	problem(w, http.StatusUnauthorized, detail)
}

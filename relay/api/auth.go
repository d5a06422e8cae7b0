package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/internal/v1"
)

// identity is the key of a request's user or cluster in its context.
type identity struct{}

// by is who makes the request.
func by(ctx context.Context) string { return whoIs(ctx).Name }

func whoIs(ctx context.Context) v1.Identity {
	who, _ := ctx.Value(identity{}).(v1.Identity)
	return who
}

// forUsers lets in who has a user's token.
func (a *API) forUsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r)
		user, err := a.opts.User(token)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		t := trailOf(r.Context())
		t.actor, t.role = user.Name, string(user.Role)
		t.valid = func() error { _, err := a.opts.User(token); return err }
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identity{}, user)))
	})
}

// forAgents lets in whose token was signed with a cluster's key.
func (a *API) forAgents(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verifier := agentauth.Verifier{Audience: a.opts.Named, Cluster: a.opts.Setup.ClusterOf, Now: time.Now()}
		cluster, err := verifier.Verify(bearer(r))
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		a.friends.add(r.RemoteAddr)
		trailOf(r.Context()).actor = "agent:" + cluster
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identity{}, v1.Identity{Name: cluster})))
	})
}

// bearer is the request's token; empty for none.
func bearer(r *http.Request) string { return parseBearer(r.Header.Get("Authorization")) }

func parseBearer(header string) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

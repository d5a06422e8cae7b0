package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/relay/records"
	"github.com/trainrelay/trainrelay/relay/tokens"
)

// apiTokens are the users' tokens as the API uses them: made by one room, kept
// by another.
type apiTokens struct{ *records.Store }

func (t apiTokens) CreateToken(ctx context.Context, want v1.TokenSettings, by string) (v1.NewToken, error) {
	secret, digest := tokens.New()
	token, err := t.Store.CreateToken(ctx, want, digest, by)
	if err != nil {
		return v1.NewToken{}, err
	}
	return v1.NewToken{Token: token, Secret: secret}, nil
}

var (
	errNoToken    = errors.New("a token is needed: send it as Authorization: Bearer …; an admin makes one with trainrelay token create")
	errWrongToken = errors.New("the token is not known: it was revoked, is cut short, or is of another relay; an admin makes a new one with trainrelay token create")
)

// users says whose token it is: the first administrator's, or one on record.
func (f *Front) users(store *records.Store) func(token string) (v1.Identity, error) {
	return func(token string) (v1.Identity, error) {
		if token == "" {
			return v1.Identity{}, errNoToken
		}
		digest, ok := tokens.Digest(token)
		if !ok {
			return v1.Identity{}, errWrongToken
		}
		if f.first.Is(digest) {
			return v1.Identity{Name: tokens.Admin, Role: v1.Admin}, nil
		}
		found, ok := store.TokenOf(digest)
		switch {
		case !ok:
			return v1.Identity{}, errWrongToken
		case found.Status != v1.TokenValid:
			return v1.Identity{}, fmt.Errorf("the token %s expired at %s: an admin makes a new one with trainrelay token create", found.Name, found.Expires.Format(time.RFC3339))
		}
		return v1.Identity{Name: found.Name, Role: found.Role, Expires: &found.Expires}, nil
	}
}

package records

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// token is the record of a user's token. Of the token itself it has the
// digest.
type token struct {
	Digest    string    `json:"digest"`
	Role      v1.Role   `json:"role"`
	Expires   time.Time `json:"expires"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
}

const tokenPrefix = "token."

// Bounds of tokens.
const (
	maxTokens    = 1000
	minTokenLife = time.Hour
	maxTokenLife = 3650 * 24 * time.Hour
	tokenLife    = 90 * 24 * time.Hour // where none is asked for
)

// reservedToken is the name of the token that the machine's owner has without
// a record.
const reservedToken = "admin"

// CreateToken keeps the digest of a new token.
func (s *Store) CreateToken(ctx context.Context, want v1.TokenSettings, digest, by string) (v1.Token, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Token{}, err
	}
	life := time.Duration(min(want.ExpiresIn, int64(maxTokenLife/time.Second)+1)) * time.Second
	if life == 0 {
		life = tokenLife
	}
	if err := checkToken(want, life); err != nil {
		return v1.Token{}, fmt.Errorf("token %q: %w: %w", want.Name, ErrInvalid, err)
	}
	if n := len(s.setup.tokens.names()); n >= maxTokens {
		return v1.Token{}, fmt.Errorf("token %s: %w: there are %d tokens, at most %d are allowed: revoke those that have expired", want.Name, ErrFull, n, maxTokens)
	}
	now := s.now()
	next := token{Digest: digest, Role: want.Role, Expires: now.Add(life), Created: now, CreatedBy: by}
	revision, err := s.create(ctx, tokenPrefix+want.Name, next)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return v1.Token{}, fmt.Errorf("token %s: %w: there is one of that name; choose another, or revoke that one first", want.Name, ErrConflict)
	}
	if err != nil {
		return v1.Token{}, fmt.Errorf("write token %s: %w", want.Name, full(err))
	}
	s.setup.tokens.apply(want.Name, row[token]{value: next, revision: revision})
	return s.viewToken(want.Name, next), nil
}

func checkToken(want v1.TokenSettings, life time.Duration) error {
	err := protocol.CheckLabel("name", want.Name)
	if want.Name == reservedToken {
		err = errors.Join(err, fmt.Errorf("name: %s is that of the token that the relay made at its first start", reservedToken))
	}
	if !slices.Contains(v1.Roles(), want.Role) {
		err = errors.Join(err, fmt.Errorf("role: %q is none of %v", want.Role, v1.Roles()))
	}
	if life < minTokenLife || life > maxTokenLife {
		err = errors.Join(err, fmt.Errorf("expires_in: %d seconds, from %d (an hour) to %d (3650 days) are allowed",
			want.ExpiresIn, minTokenLife/time.Second, maxTokenLife/time.Second))
	}
	return err
}

// RevokeToken voids a token at once; its name is free again.
func (s *Store) RevokeToken(ctx context.Context, name string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if _, revision := s.setup.tokens.at(name); revision == 0 {
		return fmt.Errorf("token %s: %w", name, ErrNotFound)
	}
	for range maxTries {
		_, revision := s.setup.tokens.at(name)
		if revision == 0 {
			return nil
		}
		err := s.plan.Purge(ctx, tokenPrefix+name, jetstream.PurgeTTL(markerTTL), jetstream.LastRevision(revision))
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			// Another relay has revoked it, and maybe made one of its name.
			if err := s.rereadToken(ctx, name, revision); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("revoke token %s: %w", name, err)
		}
		s.setup.tokens.apply(name, row[token]{gone: true, revision: revision + 1})
		return nil
	}
	return fmt.Errorf("revoke token %s: it was changed by others %d times in a row; try again", name, maxTries)
}

// rereadToken takes in what became of the token, which was at the revision.
func (s *Store) rereadToken(ctx context.Context, name string, revision uint64) error {
	e, err := s.plan.Get(ctx, tokenPrefix+name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		s.setup.tokens.apply(name, row[token]{gone: true, revision: revision + 1})
		return nil
	}
	if err != nil {
		return fmt.Errorf("read token %s: %w", name, err)
	}
	return s.setup.tokens.applyEntry(name, e)
}

// Tokens are all tokens, by name.
func (s *Store) Tokens(ctx context.Context) ([]v1.Token, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	tokens := []v1.Token{}
	for _, name := range s.setup.tokens.names() {
		if t, ok := s.setup.tokens.get(name); ok {
			tokens = append(tokens, s.viewToken(name, t))
		}
	}
	return tokens, nil
}

// TokenOf is the token, valid or expired, that has the digest. It looks at all
// of them, whichever it is, so that the time it takes tells nothing.
func (s *Store) TokenOf(digest string) (found v1.Token, ok bool) {
	s.setup.tokens.each(func(name string, t token) {
		if subtle.ConstantTimeCompare([]byte(t.Digest), []byte(digest)) == 1 {
			found, ok = s.viewToken(name, t), true
		}
	})
	return found, ok
}

func (s *Store) viewToken(name string, t token) v1.Token {
	status := v1.TokenValid
	if !s.opts.Now().Before(t.Expires) {
		status = v1.TokenExpired
	}
	return v1.Token{
		Name: name, Role: t.Role, Expires: t.Expires, Status: status,
		CreationContext: v1.CreationContext{CreatedAt: t.Created, CreatedBy: t.CreatedBy},
	}
}

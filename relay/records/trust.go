package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// trust is which of the relay's signing keys a cluster's agent trusts, by ID,
// as it last said. It outlives the connection: a key that a cluster depends on
// is not retired behind its back.
type trust struct {
	Keys []string `json:"keys"`
}

// Trusts notes which signing keys the agent of a cluster trusts. It writes
// only what is news.
func (s *Store) Trusts(ctx context.Context, name string, keys []string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	now, revision := s.setup.trusts.at(name)
	if _, ok := s.setup.clusters.get(name); !ok || len(keys) == 0 || slices.Equal(now.Keys, keys) {
		return nil
	}
	next := trust{Keys: slices.Clone(keys)}
	revision, err := s.replace(ctx, trustPrefix+name, next, revision)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return nil // another relay has noted it meanwhile, or the next sync does
	}
	if err != nil {
		return fmt.Errorf("write which keys cluster %s trusts: %w", name, err)
	}
	s.setup.trusts.apply(name, row[trust]{value: next, revision: revision})
	return s.forgetRest(ctx, name) // where it was disconnected meanwhile
}

// Waiting are the signing keys that outstanding join tokens name, by ID, by the
// cluster of the token.
func (s *Store) Waiting() map[string]string {
	waiting := map[string]string{}
	s.setup.clusters.each(func(name string, c cluster) {
		if t := c.Join; t != nil && t.UsedBy == "" && !s.opts.Now().After(t.Expires) {
			waiting[name] = t.Key
		}
	})
	return waiting
}

// Trusting are the signing keys that each cluster trusts, by ID, of those that
// trust any.
func (s *Store) Trusting() map[string][]string {
	trusting := map[string][]string{}
	for _, name := range s.setup.clusters.names() {
		if t, ok := s.setup.trusts.get(name); ok {
			trusting[name] = t.Keys
		}
	}
	return trusting
}

package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Why a join token does not let an agent in.
var (
	// ErrTokenUnknown: no cluster waits for it.
	ErrTokenUnknown = errors.New("the join token is unknown")
	// ErrTokenExpired: its time is over.
	ErrTokenExpired = errors.New("the join token has expired")
	// ErrTokenUsed: another key has joined with it.
	ErrTokenUsed = errors.New("the join token was used already")
	// ErrTokenVoid: the signing key that it names is retired, so that the agent
	// would not believe the answer.
	ErrTokenVoid = errors.New("the join token names a signing key that was retired")
)

// expiredKept is how long a token that expired unused is remembered, so that
// who tries it is told that it is too late.
const expiredKept = 24 * time.Hour

// Connect lets an agent join a cluster, once and until expires, with the token
// of that ID, which names one of the relay's signing keys. Where there is no
// such cluster it makes one; where there is, its key stays valid until another
// one joins. An earlier token that was not used is void from then on.
func (s *Store) Connect(ctx context.Context, name, tokenID, keyID string, expires time.Time, by string) (v1.Cluster, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Cluster{}, err
	}
	if err := protocol.CheckLabel("cluster", name); err != nil {
		return v1.Cluster{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	token := &join{ID: tokenID, Key: keyID, Expires: expires.UTC().Truncate(time.Second), CreatedBy: by}
	_, err := s.changeCluster(ctx, name, func(c *cluster, is bool) error {
		if c.Leaving != nil {
			return fmt.Errorf("cluster %s: %w: it is being disconnected; try again in a minute", name, ErrConflict)
		}
		if !is {
			c.Created, c.CreatedBy = s.now(), by
		}
		c.Join = token
		return nil
	})
	if err != nil {
		return v1.Cluster{}, err
	}
	return s.Cluster(ctx, name)
}

// Joins is the cluster that the join token of that ID is for.
func (s *Store) Joins(tokenID string) (name string, ok bool) {
	return s.setup.clusters.find(func(c cluster) bool { return c.Join != nil && c.Join.ID == tokenID })
}

// Enrol gives the cluster that a join token is for the key of the agent that
// has the token, and returns its name and the ID of the signing key that the
// token names. The same request again has the same answer, so that one that got
// lost does no harm; a new key takes the place of the cluster's old one, whose
// connections are cut.
func (s *Store) Enrol(ctx context.Context, e *protocol.Enrol) (name, keyID string, _ error) {
	if err := s.ready(ctx); err != nil {
		return "", "", err
	}
	if err := checkEnrol(e); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	name, ok := s.Joins(e.Token)
	if !ok {
		return "", "", unknownToken()
	}
	c, err := s.changeCluster(ctx, name, func(c *cluster, _ bool) error {
		switch t := c.Join; {
		case t == nil || t.ID != e.Token: // another one was made just now
			return unknownToken()
		case !s.opts.Signs(t.Key):
			return fmt.Errorf("cluster %s: %w: make a new one with `trainrelay cluster connect --name %s`", name, ErrTokenVoid, name)
		case t.UsedBy == e.PublicKey:
			return errUnchanged
		case t.UsedBy != "":
			return fmt.Errorf("cluster %s: %w, by an agent with another key: make a new token with `trainrelay cluster connect --name %s`", name, ErrTokenUsed, name)
		case s.opts.Now().After(t.Expires):
			return fmt.Errorf("cluster %s: %w, at %s: make a new one with `trainrelay cluster connect --name %s`", name, ErrTokenExpired, t.Expires.Format(time.RFC3339), name)
		}
		if other, taken := s.ClusterOf(e.PublicKey); taken && other != name {
			return fmt.Errorf("%w: public_key: it is the key of another cluster; make a fresh one", ErrInvalid)
		}
		used := *c.Join
		used.UsedBy = e.PublicKey
		c.PublicKey, c.SealKey, c.Join = e.PublicKey, e.SealKey, &used
		return nil
	})
	if err != nil {
		return "", "", err
	}
	s.opts.Log.Info().Str("cluster", name).Str("key", e.PublicKey).Msg("an agent joined")
	return name, c.Join.Key, nil
}

func unknownToken() error {
	return fmt.Errorf("%w: it is not of this relay, or a newer one took its place, or the cluster was disconnected; make a new one with `trainrelay cluster connect`", ErrTokenUnknown)
}

func checkEnrol(e *protocol.Enrol) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if !nkeys.IsValidPublicUserKey(e.PublicKey) {
		return errors.New("public_key: not the public nkey of a user (U…)")
	}
	if !nkeys.IsValidPublicCurveKey(e.SealKey) {
		return errors.New("seal_key: not a public curve key (X…)")
	}
	return nil
}

// errUnchanged ends a change that is none.
var errUnchanged = errors.New("unchanged")

// changeCluster changes a cluster's record by compare-and-set and returns it
// once it is on disk. change gets what is there, is says whether anything is;
// it is called again when another change came first.
func (s *Store) changeCluster(ctx context.Context, name string, change func(c *cluster, is bool) error) (cluster, error) {
	for range maxTries {
		c, revision := s.setup.clusters.at(name)
		switch err := change(&c, revision > 0); {
		case errors.Is(err, errUnchanged):
			return c, nil
		case err != nil:
			return cluster{}, err
		}
		written, err := s.replace(ctx, clusterPrefix+name, c, revision)
		if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			if err := s.rereadCluster(ctx, name); err != nil {
				return cluster{}, err
			}
			continue
		}
		if err != nil {
			return cluster{}, fmt.Errorf("write the record of cluster %s: %w", name, full(err))
		}
		s.applyCluster(name, row[cluster]{value: c, revision: written})
		return c, nil
	}
	return cluster{}, fmt.Errorf("cluster %s: its record was changed by others %d times in a row; try again", name, maxTries)
}

// rereadCluster takes in what another relay, or a request beside this one, has
// written.
func (s *Store) rereadCluster(ctx context.Context, name string) error {
	e, err := s.plan.Get(ctx, clusterPrefix+name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil // it was deleted; the watch says at which revision
	}
	if err != nil {
		return fmt.Errorf("read the record of cluster %s: %w", name, err)
	}
	return s.applyClusterEntry(name, e)
}

// applyCluster takes in a cluster's record. Who had a key that the cluster has
// no more is cut off, and what he said of himself forgotten.
func (s *Store) applyCluster(name string, r row[cluster]) {
	before, newer := s.setup.clusters.apply(name, r)
	if !newer || before.PublicKey == "" || before.PublicKey == r.value.PublicKey {
		return
	}
	s.opts.Revoked(before.PublicKey)
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	delete(s.setup.seen, name)
}

func (s *Store) applyClusterEntry(name string, e jetstream.KeyValueEntry) error {
	r, err := decodeRow[cluster](e)
	if err != nil {
		return err
	}
	s.applyCluster(name, r)
	return nil
}

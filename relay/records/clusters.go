package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Cluster is the cluster of that name.
func (s *Store) Cluster(ctx context.Context, name string) (v1.Cluster, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Cluster{}, err
	}
	c, ok := s.setup.clusters.get(name)
	if !ok {
		return v1.Cluster{}, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	}
	seen, told := s.setup.presence(name), s.setup.report(name)
	v := v1.Cluster{
		Name: name, PublicKey: c.PublicKey, SealKey: c.SealKey,
		CreationContext:   v1.CreationContext{CreatedAt: c.Created, CreatedBy: c.CreatedBy},
		Connectivity:      v1.NotResponding,
		AgentVersion:      seen.info.AgentVersion,
		KubernetesVersion: seen.info.KubernetesVersion,
		Leader:            seen.info.Leader,
		Problems:          seen.problems,
		UnknownJobs:       seen.unknown,
		Check:             told.Check,
	}
	v.Inventory = inventory(told.Found)
	if e, has := s.setup.extensions.get(name); has {
		v.Extension = e.Name
	}
	if c.Join != nil && c.Join.UsedBy == "" {
		v.JoinTokenExpires = &c.Join.Expires
	}
	if told.Incidents.Count > 0 {
		v.Incidents = &told.Incidents
	}
	if !seen.at.IsZero() {
		v.LastSync = &seen.at
	}
	if _, ever := s.setup.terms.get(name); !ever {
		v.Connectivity = v1.NeverConnected
	}
	if s.setup.connected(name, s.opts.Now()) {
		v.Connectivity = v1.Connected
	}
	return v, nil
}

// Clusters are all clusters, by name.
func (s *Store) Clusters(ctx context.Context) ([]v1.Cluster, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	clusters := []v1.Cluster{}
	for _, name := range s.setup.clusters.names() {
		c, err := s.Cluster(ctx, name)
		if err == nil { // else it was deleted just now
			clusters = append(clusters, c)
		}
	}
	return clusters, nil
}

// ClusterOf is the cluster whose agent signs with the key.
func (s *Store) ClusterOf(publicKey string) (string, bool) {
	if publicKey == "" {
		return "", false
	}
	return s.setup.clusters.find(func(c cluster) bool { return c.PublicKey == publicKey })
}

// SealKeyOf is the key to which secrets for the cluster are sealed; empty
// before its agent joined.
func (s *Store) SealKeyOf(name string) string {
	c, _ := s.setup.clusters.get(name)
	return c.SealKey
}

// Seen notes what the agent of a cluster said of itself just now.
func (s *Store) Seen(name string, said *protocol.Sync, unknownJobs int) {
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	if _, ok := s.setup.clusters.get(name); !ok {
		return // it was disconnected while this was on its way
	}
	now := s.setup.seen[name]
	now.at, now.info, now.problems, now.unknown = s.now(), said.Info, said.Problems, unknownJobs
	s.setup.seen[name] = now
}

// Connected counts the clusters that synced lately.
func (s *Store) Connected() int {
	n := 0
	for _, name := range s.setup.clusters.names() {
		if s.setup.connected(name, s.opts.Now()) {
			n++
		}
	}
	return n
}

// maxPast bounds the sessions that are known to be superseded.
const maxPast = 16

// Term is the term of a session that leads the cluster. A session that was not
// heard of before supersedes the one that leads, with a term above every other
// and above seen; fresh says so. A superseded session gets term 0. A cluster
// that was disconnected has none.
func (s *Store) Term(ctx context.Context, name, session string, seen uint64) (_ uint64, fresh bool, _ error) {
	if err := s.ready(ctx); err != nil {
		return 0, false, err
	}
	for range maxTries {
		if _, ok := s.setup.clusters.get(name); !ok {
			return 0, false, errors.Join(fmt.Errorf("cluster %s: %w: it was disconnected", name, ErrNotFound), s.forgetRest(ctx, name))
		}
		now, revision := s.setup.terms.at(name)
		switch {
		case now.Session == session && revision > 0:
			return now.Term, false, nil
		case slices.Contains(now.Past, session):
			return 0, false, nil
		}
		next := term{Term: max(now.Term, seen) + 1, Session: session}
		if revision > 0 {
			next.Past = append([]string{now.Session}, now.Past[:min(len(now.Past), maxPast-1)]...)
		}
		revision, err := s.replace(ctx, termPrefix+name, next, revision)
		if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			e, err := s.plan.Get(ctx, termPrefix+name)
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				continue // the cluster was disconnected
			}
			if err != nil {
				return 0, false, fmt.Errorf("read the term of cluster %s: %w", name, err)
			}
			if err := s.setup.terms.applyEntry(name, e); err != nil {
				return 0, false, err
			}
			continue
		}
		if err != nil {
			return 0, false, fmt.Errorf("write the term of cluster %s: %w", name, err)
		}
		s.setup.terms.apply(name, row[term]{value: next, revision: revision})
		if _, ok := s.setup.clusters.get(name); !ok {
			continue // it was disconnected meanwhile, and the term is to go, too
		}
		return next.Term, true, nil
	}
	return 0, false, fmt.Errorf("cluster %s: its term was changed by others %d times in a row", name, maxTries)
}

// create writes a key of the setup that must not exist.
func (s *Store) create(ctx context.Context, key string, value any) (revision uint64, _ error) {
	return s.replace(ctx, key, value, 0)
}

// replace writes a key of the setup, of which it knows the revision; 0 where
// it must not exist.
func (s *Store) replace(ctx context.Context, key string, value any, revision uint64) (uint64, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	if revision == 0 {
		return s.plan.Create(ctx, key, data)
	}
	return s.plan.Update(ctx, key, data, revision)
}

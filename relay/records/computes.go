package records

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// agentNamespace is the agent's own: training pods do not belong there.
const agentNamespace = "azureml"

// PutCompute makes a compute, or changes the description of one. Cluster and
// namespace stay what they are: jobs of it may be running there.
func (s *Store) PutCompute(ctx context.Context, want v1.Compute, by string) (_ v1.Compute, created bool, _ error) {
	if err := s.ready(ctx); err != nil {
		return v1.Compute{}, false, err
	}
	if err := s.checkCompute(want); err != nil {
		return v1.Compute{}, false, fmt.Errorf("compute %q: %w: %w", want.Name, ErrInvalid, err)
	}
	old, revision := s.setup.computes.at(want.Name)
	next := compute{Cluster: want.Cluster, Namespace: want.Namespace, Description: want.Description, Created: s.now(), CreatedBy: by}
	if revision > 0 {
		if old.Cluster != next.Cluster || old.Namespace != next.Namespace {
			return v1.Compute{}, false, fmt.Errorf("compute %s: %w: it is namespace %s of cluster %s, which cannot change; choose another name",
				want.Name, ErrConflict, old.Namespace, old.Cluster)
		}
		next.Created, next.CreatedBy = old.Created, old.CreatedBy
	} else if n := len(s.Targets(want.Cluster)); n >= protocol.MaxComputes {
		return v1.Compute{}, false, fmt.Errorf("compute %s: %w: cluster %s has %d computes, at most %d are allowed", want.Name, ErrFull, want.Cluster, n, protocol.MaxComputes)
	}
	written, err := s.replace(ctx, computePrefix+want.Name, next, revision)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return v1.Compute{}, false, fmt.Errorf("compute %s: %w: somebody else changed it just now; try again", want.Name, ErrConflict)
	}
	if err != nil {
		return v1.Compute{}, false, fmt.Errorf("write compute %s: %w", want.Name, full(err))
	}
	s.setup.computes.apply(want.Name, row[compute]{value: next, revision: written})
	s.opts.Nudge(next.Cluster)
	v, err := s.Compute(ctx, want.Name)
	return v, revision == 0, err
}

func (s *Store) checkCompute(c v1.Compute) error {
	err := errors.Join(
		protocol.CheckCompute(c.Name),
		protocol.CheckLabel("cluster", c.Cluster),
		protocol.CheckLabel("namespace", c.Namespace),
	)
	if c.Namespace == agentNamespace {
		err = errors.Join(err, fmt.Errorf("namespace %s is the agent's own; choose another one for training", agentNamespace))
	}
	if len(c.Description) > protocol.MaxReason {
		err = errors.Join(err, fmt.Errorf("description: %d bytes, at most %d are allowed", len(c.Description), protocol.MaxReason))
	}
	if _, ok := s.setup.clusters.get(c.Cluster); !ok {
		err = errors.Join(err, fmt.Errorf("there is no cluster %q; connect it first", c.Cluster))
	}
	return err
}

// Compute is the compute of that name.
func (s *Store) Compute(ctx context.Context, name string) (v1.Compute, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Compute{}, err
	}
	c, ok := s.setup.computes.get(name)
	if !ok {
		return v1.Compute{}, fmt.Errorf("compute %s: %w", name, ErrNotFound)
	}
	queued, active := s.index.load(name, c.Cluster)
	return v1.Compute{
		Name: name, Type: "kubernetes", Cluster: c.Cluster, Namespace: c.Namespace, Description: c.Description,
		CreationContext: v1.CreationContext{CreatedAt: c.Created, CreatedBy: c.CreatedBy},
		SealKey:         s.SealKeyOf(c.Cluster),
		Queued:          queued, Active: active,
	}, nil
}

// Computes are all computes, by name.
func (s *Store) Computes(ctx context.Context) ([]v1.Compute, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	computes := []v1.Compute{}
	for _, name := range s.setup.computes.names() {
		c, err := s.Compute(ctx, name)
		if err != nil {
			return nil, err
		}
		computes = append(computes, c)
	}
	return computes, nil
}

// Targets are the computes of a cluster, as its agent is told of them.
func (s *Store) Targets(cluster string) []protocol.Compute {
	var targets []protocol.Compute
	for _, name := range s.setup.computes.names() {
		if c, ok := s.setup.computes.get(name); ok && c.Cluster == cluster {
			targets = append(targets, protocol.Compute{Name: name, Namespace: c.Namespace})
		}
	}
	return targets
}

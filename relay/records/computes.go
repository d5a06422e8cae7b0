package records

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// agentNamespace is the agent's own: training pods do not belong there.
const agentNamespace = "azureml"

// PutCompute makes a compute, or changes the settings of one. Cluster and
// namespace stay what they are: jobs of it may be running there.
func (s *Store) PutCompute(ctx context.Context, name string, want v1.ComputeBody, by string) (_ v1.Compute, created bool, _ error) {
	if err := s.ready(ctx); err != nil {
		return v1.Compute{}, false, err
	}
	if err := s.checkCompute(name, want.ComputeSettings); err != nil {
		return v1.Compute{}, false, fmt.Errorf("compute %q: %w: %w", name, ErrInvalid, err)
	}
	old, revision := s.setup.computes.at(name)
	next := compute{ComputeSettings: want.ComputeSettings, ResourceID: want.ResourceID, Created: s.now(), CreatedBy: by}
	if revision > 0 {
		if err := s.mayBecome(name, old, next); err != nil {
			return v1.Compute{}, false, fmt.Errorf("compute %s: %w: %w", name, ErrConflict, err)
		}
		next.Created, next.CreatedBy, next.Modified = old.Created, old.CreatedBy, s.now()
		if reflect.DeepEqual(old.ComputeSettings, next.ComputeSettings) && old.ResourceID == next.ResourceID {
			v, err := s.Compute(ctx, name)
			return v, false, err
		}
	}
	if err := s.roomFor(name, next); err != nil {
		return v1.Compute{}, false, fmt.Errorf("compute %s: %w: %w", name, ErrFull, err)
	}
	written, err := s.replace(ctx, computePrefix+name, next, revision)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return v1.Compute{}, false, fmt.Errorf("compute %s: %w: somebody else changed it just now; try again", name, ErrConflict)
	}
	if err != nil {
		return v1.Compute{}, false, fmt.Errorf("write compute %s: %w", name, full(err))
	}
	s.setup.computes.apply(name, row[compute]{value: next, revision: written})
	s.opts.Nudge(next.Cluster)
	v, err := s.Compute(ctx, name)
	return v, revision == 0, err
}

// mayBecome says why a compute cannot be changed like that.
func (s *Store) mayBecome(name string, old, next compute) error {
	switch {
	case old.Leaving != nil:
		return errors.New("it is being detached; attach it again when its jobs have ended")
	case old.Cluster != next.Cluster || old.Namespace != next.Namespace:
		return fmt.Errorf("it is namespace %s of cluster %s, which cannot change; choose another name, or detach it first", old.Namespace, old.Cluster)
	}
	for kind, n := range s.index.kinds(name) {
		_, had := old.InstanceTypes[kind]
		if _, has := next.InstanceTypes[kind]; had && !has {
			return fmt.Errorf("%d unfinished jobs use its instance type %s; cancel them, or keep it until they have ended", n, kind)
		}
		if kind == "" && len(old.InstanceTypes) == 0 && len(next.InstanceTypes) > 0 {
			return fmt.Errorf("%d unfinished jobs use the built-in instance type; cancel them, or wait until they have ended", n)
		}
	}
	return nil
}

// roomFor says which limit of the cluster's computes would be passed. What is
// counted is what the answers to syncs carry.
func (s *Store) roomFor(name string, next compute) error {
	own := protocol.Compute{Name: name, Namespace: next.Namespace, Revision: 1 << 53, ComputeSettings: next.ComputeSettings.ComputeSettings}
	computes, kinds, size := 1, max(1, len(own.InstanceTypes)), own.Size()
	for _, c := range s.Targets(next.Cluster) {
		if c.Name != name {
			computes, kinds, size = computes+1, kinds+max(1, len(c.InstanceTypes)), size+c.Size()
		}
	}
	for _, limit := range []struct {
		what    string
		is, max int
	}{
		{"computes", computes, protocol.MaxComputes},
		{"instance types of all its computes", kinds, protocol.MaxRooms},
		{"bytes of settings of all its computes", size, protocol.MaxComputeSettings},
	} {
		if limit.is > limit.max {
			return fmt.Errorf("cluster %s would have %d %s, at most %d are allowed", next.Cluster, limit.is, limit.what, limit.max)
		}
	}
	return nil
}

func (s *Store) checkCompute(name string, c v1.ComputeSettings) error {
	err := errors.Join(
		protocol.CheckCompute(name),
		protocol.CheckLabel("cluster", c.Cluster),
		protocol.CheckLabel("namespace", c.Namespace),
		c.Validate(),
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

// Detach takes a compute away. One with unfinished jobs stays, and the error is
// an ErrConflict, unless cancelJobs: then they are canceled, and it goes once the
// last has ended.
func (s *Store) Detach(ctx context.Context, name, by string, cancelJobs bool) (v1.Compute, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Compute{}, err
	}
	c, revision := s.setup.computes.at(name)
	if revision == 0 {
		return v1.Compute{}, fmt.Errorf("compute %s: %w", name, ErrNotFound)
	}
	queued, live := s.index.load(name, c.Cluster)
	if queued+live > 0 && !cancelJobs && c.Leaving == nil {
		return v1.Compute{}, fmt.Errorf("compute %s: %w: it has %d unfinished jobs; wait for them, or let them be canceled (--jobs cancel)", name, ErrConflict, queued+live)
	}
	if c.Leaving == nil {
		c.Leaving = &leaving{By: by, At: s.now()}
		written, err := s.replace(ctx, computePrefix+name, c, revision)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return v1.Compute{}, fmt.Errorf("compute %s: %w: somebody else changed it just now; try again", name, ErrConflict)
		}
		if err != nil {
			return v1.Compute{}, fmt.Errorf("write compute %s: %w", name, full(err))
		}
		s.setup.computes.apply(name, row[compute]{value: c, revision: written})
	}
	v, err := s.Compute(ctx, name)
	if err != nil {
		return v, err
	}
	gone, err := s.leaveCompute(ctx, name)
	if gone {
		v.Queued, v.Active = 0, 0
	}
	return v, err
}

// leaveCompute goes on with a detachment: it cancels what is left, and forgets
// the compute once nothing is. It bears being done again.
func (s *Store) leaveCompute(ctx context.Context, name string) (gone bool, _ error) {
	c, revision := s.setup.computes.at(name)
	if revision == 0 || c.Leaving == nil {
		return revision == 0, nil
	}
	for rec := range s.index.newest(nil) {
		if rec.Compute != name || !rec.claimable() && (rec.live() == nil || rec.Cancel != nil) {
			continue
		}
		_, err := s.update(ctx, rec.Name, func(status *Status) bool {
			return status.cancel(c.Leaving.By, protocol.NewReason(protocol.UserCanceled, "compute %s was detached by %s", name, c.Leaving.By), s.now())
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("detach compute %s: %w", name, err)
		}
	}
	s.opts.Nudge(c.Cluster)
	if queued, live := s.index.load(name, c.Cluster); queued+live > 0 {
		return false, nil
	}
	return true, purgeRow(ctx, s, &s.setup.computes, computePrefix, name)
}

// leaveComputes goes on with the detachments of computes.
func (s *Store) leaveComputes(ctx context.Context) error {
	var failed error
	for _, name := range s.setup.computes.names() {
		_, err := s.leaveCompute(ctx, name)
		failed = errors.Join(failed, err)
	}
	return failed
}

// settle forgets the computes of a cluster that were detached and whose last job
// has ended now.
func (s *Store) settle(ctx context.Context, cluster string) error {
	var failed error
	for _, name := range s.setup.computes.names() {
		c, ok := s.setup.computes.get(name)
		if !ok || c.Leaving == nil || c.Cluster != cluster {
			continue
		}
		if queued, live := s.index.load(name, cluster); queued+live == 0 {
			failed = errors.Join(failed, purgeRow(ctx, s, &s.setup.computes, computePrefix, name))
		}
	}
	return failed
}

// closeStrays ends queued jobs whose compute is no more: they were accepted
// while it was being detached.
func (s *Store) closeStrays(ctx context.Context) error {
	for rec := range s.index.newest(nil) {
		if _, ok := s.setup.computes.get(rec.Compute); ok || !rec.claimable() {
			continue
		}
		_, err := s.update(ctx, rec.Name, func(status *Status) bool {
			return status.claimable() && status.end(protocol.Failed, protocol.NewReason(protocol.ComputeDeleted, "compute %s was detached", rec.Compute), s.now())
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// Targets are the computes of a cluster, as its agent is told of them.
func (s *Store) Targets(cluster string) []protocol.Compute {
	var targets []protocol.Compute
	for _, name := range s.setup.computes.names() {
		if c, revision := s.setup.computes.at(name); revision > 0 && c.Cluster == cluster {
			targets = append(targets, protocol.Compute{Name: name, Namespace: c.Namespace, Revision: revision, ComputeSettings: c.ComputeSettings.ComputeSettings})
		}
	}
	return targets
}

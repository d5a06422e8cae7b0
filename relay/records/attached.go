package records

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Compute is the compute of that name.
func (s *Store) Compute(ctx context.Context, name string) (v1.Compute, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Compute{}, err
	}
	c, revision := s.setup.computes.at(name)
	if revision == 0 {
		return v1.Compute{}, fmt.Errorf("compute %s: %w", name, ErrNotFound)
	}
	v := v1.Compute{
		Name: name, Type: "kubernetes", ResourceID: c.ResourceID, ComputeSettings: c.ComputeSettings,
		CreationContext: v1.CreationContext{CreatedAt: c.Created, CreatedBy: c.CreatedBy},
		SealKey:         s.SealKeyOf(c.Cluster),
	}
	v.Queued, v.Active = s.index.load(name, c.Cluster)
	found := s.found(c.Cluster)
	seen := seenOf(found, name)
	v.ProvisioningState = provisioning(c, revision, seen)
	if seen != nil && seen.Revision == revision {
		v.ProvisioningErrors, v.Warnings = seen.Problems, seen.Warnings
	}
	v.Capacity = capacity(c, seen, found)
	v.Status = v1.ComputeStatus{
		CreationTime: c.Created, ModifiedTime: c.Created, ProvisioningState: v.ProvisioningState,
	}
	if !c.Modified.IsZero() {
		v.Status.ModifiedTime = c.Modified
	}
	return v, nil
}

// provisioning is how far the agent has come with a compute.
func provisioning(c compute, revision uint64, seen *protocol.ComputeFound) v1.ProvisioningState {
	switch {
	case c.Leaving != nil:
		return v1.Deleting
	case seen == nil || seen.Revision != revision && c.Modified.IsZero():
		return v1.Creating
	case seen.Revision != revision:
		return v1.Updating
	case len(seen.Problems) > 0:
		return v1.Failed
	}
	return v1.Succeeded
}

// capacity lists a compute's instance types, the default first, with what the
// agent saw of them.
func capacity(c compute, seen *protocol.ComputeFound, found *protocol.Found) []v1.InstanceTypeShown {
	var shown []v1.InstanceTypeShown
	add := func(name, origin string) {
		t := v1.InstanceTypeShown{Name: cmp.Or(name, protocol.BuiltinInstanceType), Origin: origin, Default: name == c.DefaultInstanceType}
		if seen != nil {
			for _, s := range seen.Types {
				if s.Name == name {
					t.Nodes, t.Largest, t.Fits = s.Nodes, s.Largest, s.Fits
				}
			}
		}
		shown = append(shown, t)
	}
	if len(c.InstanceTypes) == 0 {
		add("", v1.BuiltIn)
	}
	for _, name := range slices.Sorted(maps.Keys(c.InstanceTypes)) {
		add(name, v1.OfCompute)
	}
	for _, name := range slices.Sorted(maps.Keys(ofCluster(found))) {
		if _, own := c.InstanceTypes[name]; !own {
			add(name, v1.OfCluster)
		}
	}
	slices.SortStableFunc(shown, func(a, b v1.InstanceTypeShown) int {
		switch {
		case a.Default:
			return -1
		case b.Default:
			return 1
		}
		return 0
	})
	return shown
}

// found is what the agent of a cluster found last; nil for nothing yet.
func (s *Store) found(cluster string) *protocol.Found { return s.setup.report(cluster).Found }

func seenOf(found *protocol.Found, name string) *protocol.ComputeFound {
	if found == nil {
		return nil
	}
	i := slices.IndexFunc(found.Computes, func(c protocol.ComputeFound) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &found.Computes[i]
}

// ofCluster are the instance types that the cluster itself has.
func ofCluster(found *protocol.Found) map[string]protocol.InstanceType {
	if found == nil {
		return nil
	}
	return found.Inventory.InstanceTypes
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

// instanceType is what a job runs on: the type that it asks for, or the
// compute's default.
func (s *Store) instanceType(job *protocol.Job, c compute) (string, error) {
	if job.InstanceType == "" {
		return c.DefaultInstanceType, nil
	}
	found := s.found(c.Cluster)
	_, own := c.InstanceTypes[job.InstanceType]
	_, theirs := ofCluster(found)[job.InstanceType]
	switch {
	case own || theirs:
		return job.InstanceType, nil
	case len(c.InstanceTypes) == 0 && job.InstanceType == protocol.BuiltinInstanceType:
		return "", nil
	}
	var names []string
	for _, t := range capacity(c, nil, found) {
		names = append(names, t.Name)
	}
	return "", fmt.Errorf("resources.instance_type: compute %s has no instance type %q; it has %s", job.Compute, protocol.Cut(job.InstanceType, 80), strings.Join(names, ", "))
}

// warnings are what may keep a job that was just accepted from running.
func (s *Store) warnings(job *protocol.Job, rec *record, c compute) (warnings []string) {
	if seen := seenOf(s.found(c.Cluster), job.Compute); seen != nil && len(seen.Problems) > 0 {
		warnings = append(warnings, fmt.Sprintf("compute %s is Failed: %s", job.Compute, seen.Problems[0]))
	}
	if warning := s.tooBig(job, rec, c); warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings
}

// tooBig warns of a job that the cluster could not run even if it were empty.
func (s *Store) tooBig(job *protocol.Job, rec *record, c compute) string {
	seen := seenOf(s.found(c.Cluster), job.Compute)
	if seen == nil {
		return ""
	}
	for _, t := range seen.Types {
		if t.Name != rec.InstanceType || t.Largest >= job.Instances {
			continue
		}
		name := cmp.Or(t.Name, protocol.BuiltinInstanceType)
		switch {
		case t.Nodes == 0:
			return fmt.Sprintf("no node of cluster %s has what instance type %s selects; the job waits until one does", c.Cluster, name)
		case t.Largest == 0:
			return fmt.Sprintf("instance type %s is larger than every node of cluster %s; the job waits until there is a larger one", name, c.Cluster)
		}
		return fmt.Sprintf("%d instances of %s are more than cluster %s takes when it is empty (%d); the job waits until it has more nodes", job.Instances, name, c.Cluster, t.Largest)
	}
	return ""
}

// inventory is what an agent found, as users see it; nil for nothing yet.
func inventory(found *protocol.Found) *v1.Inventory {
	if found == nil {
		return nil
	}
	i := found.Inventory
	shown := &v1.Inventory{
		Time: found.Time, Nodes: i.Nodes, Ready: i.Ready, Resources: []v1.ResourceShown{}, Proxy: i.Proxy,
		InstanceTypes: slices.Sorted(maps.Keys(i.InstanceTypes)), RoundTrip: float64(i.RoundTrip.Microseconds()) / 1000,
	}
	for _, name := range slices.Sorted(maps.Keys(i.Allocatable)) {
		shown.Resources = append(shown.Resources, v1.ResourceShown{Name: name, Allocatable: i.Allocatable[name], Free: i.Free[name]})
	}
	return shown
}

package cluster

import (
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// held lists the attempts with a Job in the views, and those that the views do
// not show: grants to be created, Jobs just created, Jobs whose end is on its
// way to being observed.
func (s *session) held(full bool) []protocol.Ref {
	var refs []protocol.Ref
	seen := make(map[protocol.Ref]bool)
	for _, namespace := range s.o.Namespaces {
		for _, obj := range s.views[namespace].jobs.GetStore().List() {
			job := obj.(*batchv1.Job)
			id, err := workload.IdentifyJob(job)
			if err == nil && (full || !finished(job)) && !seen[id.Ref] {
				seen[id.Ref] = true
				refs = append(refs, id.Ref)
			}
		}
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, a := range s.attempts {
		if !seen[ref] && !a.ended && (a.job != nil || a.creatable(now)) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// creatable reports whether a Job may still be created for the attempt.
func (a *attempt) creatable(now time.Time) bool {
	return a.start != nil && now.Before(a.start.deadline)
}

// place is an instance type of a compute.
type place struct{ compute, instanceType string }

// room counts from the views and from what they do not show yet. Jobs without
// nodes take the room of their instance type only; live ones that of the whole
// compute. A compute whose namespace the agent does not watch has room too: its
// attempts are to come, and to end with the reason.
func (s *session) room(computes []protocol.Compute) []protocol.Room {
	hidden := s.hidden()
	rooms := make([]protocol.Room, 0, len(computes))
	for _, c := range computes {
		c = s.equipped(c)
		live, unscheduled := 0, make(map[string]int)
		for at, n := range hidden {
			if at.compute == c.Name {
				live += n
				unscheduled[at.instanceType] += n
			}
		}
		if v := s.views[c.Namespace]; v != nil {
			for _, job := range indexed[*batchv1.Job](v.jobs, byCompute, c.Name) {
				live++
				if !scheduled(job, v.podsOf(job)) {
					unscheduled[job.Labels[workload.LabelInstanceType]]++
				}
			}
		}
		left := s.o.MaxLive - live
		for _, name := range typesOf(&c) {
			free := max(0, min(left, s.o.MaxUnscheduled-unscheduled[name]))
			left -= free
			rooms = append(rooms, protocol.Room{Compute: c.Name, InstanceType: name, Free: free})
		}
	}
	return rooms
}

// typesOf names the instance types of a compute, the default one first.
func typesOf(c *protocol.Compute) []string {
	names := []string{c.DefaultInstanceType}
	for _, name := range slices.Sorted(maps.Keys(c.InstanceTypes)) {
		if name != c.DefaultInstanceType {
			names = append(names, name)
		}
	}
	return names
}

// equipped is the compute with the instance types that the cluster itself has.
func (s *session) equipped(c protocol.Compute) protocol.Compute {
	own := s.o.InstanceTypes()
	if len(own) == 0 {
		return c
	}
	types := maps.Clone(own)
	maps.Copy(types, c.InstanceTypes)
	c.InstanceTypes = types
	return c
}

// hidden counts what takes room and is in no view yet.
func (s *session) hidden() map[place]int {
	now := time.Now()
	count := make(map[place]int)
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, a := range s.attempts {
		switch {
		case a.ended:
		case a.job == nil && a.creatable(now):
			count[place{a.start.compute.Name, a.start.start.InstanceType}]++
		case a.job != nil && !a.live.IsZero() && s.job(ref) == nil:
			count[place{a.job.Labels[workload.LabelCompute], a.job.Labels[workload.LabelInstanceType]}]++
		}
	}
	return count
}

// scheduled reports whether every pod of a Job has its node, or none is needed
// any more.
func scheduled(job *batchv1.Job, pods []*corev1.Pod) bool {
	if winding(job) || workload.Stopping(job) != nil {
		return true
	}
	if len(pods) < instances(job) {
		return false
	}
	for _, pod := range pods {
		if pod.Spec.NodeName == "" {
			return false
		}
	}
	return true
}

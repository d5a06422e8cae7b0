package inventory

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// judge looks at one compute: what keeps its jobs from running, what may, and
// what the cluster takes of each of its instance types.
func (i *Inventory) judge(ctx context.Context, c protocol.Compute, own map[string]protocol.InstanceType, nodes state) protocol.ComputeFound {
	found := protocol.ComputeFound{Name: c.Name, Revision: c.Revision}
	problem := func(format string, args ...any) {
		if len(found.Problems) < protocol.MaxProblems {
			found.Problems = append(found.Problems, protocol.Cut(fmt.Sprintf(format, args...), protocol.MaxCheckText))
		}
	}
	warn := func(format string, args ...any) {
		if len(found.Warnings) < protocol.MaxProblems {
			found.Warnings = append(found.Warnings, protocol.Cut(fmt.Sprintf(format, args...), protocol.MaxCheckText))
		}
	}
	if err := i.o.Place(ctx, c.Namespace); err != nil {
		problem("%v", err)
	}
	tolerations := i.o.Tolerations(&c)
	for _, name := range names(&c, own) {
		kind, isOwn := c.Type(name)
		if t, theirs := own[name]; theirs && !has(&c, name) {
			kind, isOwn = t, false
		}
		if name == "" {
			kind = own[protocol.ClusterDefaultType]
		}
		takes, err := i.o.Resources(&kind)
		if err != nil && isOwn {
			problem("instance type %s: %v", shown(name), err)
			continue
		} else if err != nil {
			warn("instance type %s of the cluster: %v", shown(name), err)
			continue
		}
		if !nodes.known || len(found.Types) == protocol.MaxRooms {
			continue
		}
		t := nodes.capacity(name, kind, takes.Requests, tolerations)
		switch {
		case t.Nodes == 0 && len(kind.NodeSelector) > 0:
			warn("instance type %s: no node that is ready has the labels %s; its jobs wait until one does", shown(name), labelled(kind.NodeSelector))
		case t.Nodes == 0:
			warn("instance type %s: no node takes its pods: all are unready, cordoned or tainted", shown(name))
		case t.Largest == 0:
			warn("instance type %s asks for more than any of its %d nodes has; its jobs wait until there is a larger one", shown(name), t.Nodes)
		}
		found.Types = append(found.Types, t)
	}
	return found
}

// capacity is what the nodes take of an instance type.
func (s *state) capacity(name string, kind protocol.InstanceType, asks corev1.ResourceList, tolerations []corev1.Toleration) protocol.TypeFound {
	t := protocol.TypeFound{Name: name}
	now := 0
	for _, n := range s.nodes {
		if !n.takes(kind.NodeSelector, tolerations) {
			continue
		}
		t.Nodes++
		t.Largest += fits(n.Status.Allocatable, asks)
		now += fits(n.free, asks)
	}
	if s.pods {
		t.Fits = &now
	}
	return t
}

// names are those of all instance types that a job of the compute can have.
func names(c *protocol.Compute, own map[string]protocol.InstanceType) []string {
	all := slices.Sorted(maps.Keys(c.InstanceTypes))
	if len(all) == 0 {
		all = append(all, "")
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if !has(c, name) {
			all = append(all, name)
		}
	}
	return all
}

func has(c *protocol.Compute, name string) bool {
	_, has := c.InstanceTypes[name]
	return has
}

func shown(name string) string {
	if name == "" {
		return protocol.BuiltinInstanceType
	}
	return name
}

func labelled(selector map[string]string) string {
	text := ""
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		text += ", " + key + "=" + selector[key]
	}
	return text[2:]
}

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

// Component is a part of the cluster that can fail: a process, or a whole node.
type Component struct {
	cluster *Cluster
	name    string
}

// Component returns the component of that name, such as APIServer, "node1" or
// "node1/kubelet". Its methods fail when the cluster has none.
func (c *Cluster) Component(name string) *Component { return &Component{cluster: c, name: name} }

// Components lists the names of all components.
func (c *Cluster) Components() []string {
	names := slices.Collect(maps.Keys(c.controlPlane()))
	for n := range c.nodes() {
		names = append(names, n.name())
		for _, part := range nodeParts {
			names = append(names, n.name()+"/"+part)
		}
	}
	slices.Sort(names)
	return names
}

// Alive reports whether the component's process is there.
func (p *Component) Alive() bool {
	process := p.cluster.host.Process(p.name)
	return process != nil && process.Alive()
}

// Kill ends the component as a power cut does, and returns when it is gone. A
// node takes all its processes and containers along.
func (p *Component) Kill(ctx context.Context) error {
	process, err := p.process()
	if err != nil {
		return err
	}
	return process.Kill(ctx)
}

// Pause stops the component where it is. Of a node it stops containerd, kubelet
// and kube-proxy; containers go on.
func (p *Component) Pause() error { return p.each((*host.Process).Pause) }

// Resume lets a paused component go on.
func (p *Component) Resume() error { return p.each((*host.Process).Resume) }

// Restart kills the component, starts it again and waits until it is ready.
func (p *Component) Restart(ctx context.Context) error {
	if err := p.Kill(ctx); err != nil {
		return err
	}
	if n, ok := p.cluster.nodeNamed(p.name); ok {
		return p.cluster.restartNode(ctx, n)
	}
	return p.start(ctx)
}

// patience is how long a component may take to be ready on a busy machine.
const patience = 2 * time.Minute

// start starts the process and waits until it is ready.
func (p *Component) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	spec, ok := p.cluster.spec(p.name)
	if !ok {
		return p.unknown()
	}
	spec.command.Name = p.name
	spec.command.Log = p.cluster.log(strings.ReplaceAll(p.name, "/", "-"))
	spec.command.Detach = p.cluster.options.Detach
	process, err := p.cluster.host.Start(ctx, spec.command)
	if err != nil || spec.ready == nil {
		return err
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if !process.Alive() {
			return false, fmt.Errorf("it ended; the end of %s:\n%s", spec.command.Log, host.Tail(spec.command.Log))
		}
		last = spec.ready(ctx)
		return last == nil, nil
	})
	if ctx.Err() != nil && last != nil {
		err = fmt.Errorf("%w; the last look at it said: %w", err, last)
	}
	if err != nil {
		return fmt.Errorf("wait until %s is ready: %w", p.name, err)
	}
	return nil
}

// spec returns how a component is run.
func (c *Cluster) spec(name string) (process, bool) {
	if spec, ok := c.controlPlane()[name]; ok {
		return spec, true
	}
	for n := range c.nodes() {
		if part, ok := strings.CutPrefix(name, n.name()); ok {
			return c.nodeProcess(n, strings.TrimPrefix(part, "/"))
		}
	}
	return process{}, false
}

// each does something with the process, or with the parts of a node.
func (p *Component) each(do func(*host.Process) error) error {
	if _, ok := p.cluster.nodeNamed(p.name); !ok {
		process, err := p.process()
		if err != nil {
			return err
		}
		return do(process)
	}
	for _, part := range nodeParts {
		if err := p.cluster.Component(p.name + "/" + part).each(do); err != nil {
			return err
		}
	}
	return nil
}

func (p *Component) process() (*host.Process, error) {
	process := p.cluster.host.Process(p.name)
	if process == nil {
		return nil, p.unknown()
	}
	return process, nil
}

func (p *Component) unknown() error {
	return fmt.Errorf("the cluster has no component %s: it has %s", p.name, strings.Join(p.cluster.Components(), ", "))
}

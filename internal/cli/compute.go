package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type computeCommands struct {
	Attach computeAttach `cmd:"" help:"Attach a namespace of a cluster as a compute, and wait until its agent has looked at it."`
	Update computeUpdate `cmd:"" help:"Change the settings of a compute."`
	Show   computeShow   `cmd:"" help:"Show a compute, and what its cluster can take."`
	List   computeList   `cmd:"" help:"List the computes."`
	Detach computeDetach `cmd:"" help:"Take a compute away; the cluster stays connected."`
}

var computeColumns = []column{
	{"Name", "name"}, {"State", "provisioning_state"}, {"Cluster", "cluster"}, {"Namespace", "namespace"},
	{"DefaultType", "capacity[?default].name | [0]"}, {"Queued", "queued_jobs"}, {"Active", "active_jobs"},
	{"Created", "creation_context.created_at"},
}

var capacityColumns = []column{
	{"InstanceType", "name"}, {"Default", "default"}, {"Of", "origin"}, {"Nodes", "nodes"}, {"FitsEmpty", "largest"}, {"FitsNow", "fits_now"},
}

type computeUpdate struct {
	target
	scoped
	computeFile
	NoWait  bool          `name:"no-wait" help:"Do not wait for the cluster's agent."`
	Timeout time.Duration `help:"How long to wait for it." default:"2m" placeholder:"TIME"`
	output
}

func (c *computeUpdate) Run(ctx context.Context, a *app) error {
	spec, err := c.read()
	if err != nil {
		return err
	}
	if c.Flag == "" && c.Argument == "" {
		c.Flag = spec.Name
	}
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	if c.ConfigFile == "" && c.File == "" && c.Description == "" {
		return usage{errors.New("nothing to change is given"), "add --config-file FILE, --file FILE or --description TEXT"}
	}
	old, err := relay.Compute(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay compute list` shows what there is"}
	}
	want := v1.ComputeBody{ResourceID: old.ResourceID, ComputeSettings: old.ComputeSettings}
	if spec.Namespace != "" && spec.Namespace != old.Namespace {
		return usage{fmt.Errorf("compute %s is namespace %s, which cannot change to %s", name, old.Namespace, spec.Namespace), "attach another compute, or detach this one first"}
	}
	if c.ConfigFile != "" || c.File != "" {
		want.ComputeSettings.ComputeSettings = spec.ComputeSettings
	}
	if spec.Description != "" {
		want.Description = spec.Description
	}
	compute, _, err := relay.PutCompute(ctx, name, want)
	if err != nil {
		return err
	}
	return settling{patience: c.Timeout, noWait: c.NoWait}.run(ctx, a, relay, compute, c.output)
}

type computeShow struct {
	target
	scoped
	output
}

func (c *computeShow) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	compute, err := relay.Compute(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay compute list` shows what there is"}
	}
	if err := a.print(c.output, compute, formatJSON, computeColumns); err != nil {
		return err
	}
	if c.Format != formatTable || c.Query != "" {
		return nil
	}
	for _, problem := range compute.ProvisioningErrors {
		a.notef("Failed: %s", problem)
	}
	for _, warning := range compute.Warnings {
		a.notef("warning: %s", warning)
	}
	return a.printBelow(c.output, compute.Capacity, capacityColumns)
}

type computeList struct {
	scoped
	output
}

func (c *computeList) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	computes, err := relay.Computes(ctx)
	if err != nil {
		return err
	}
	return a.print(c.output, computes, formatTable, computeColumns)
}

type computeDetach struct {
	target
	scoped
	Jobs    string        `enum:"keep,cancel" default:"keep" help:"What becomes of its unfinished jobs: keep refuses to detach while there are any; cancel ends them first." placeholder:"keep|cancel"`
	Yes     bool          `short:"y" help:"As of az; nothing is asked here."`
	NoWait  bool          `name:"no-wait" help:"Do not wait until its jobs have ended."`
	Timeout time.Duration `help:"How long to wait for that." default:"5m" placeholder:"TIME"`
	output
}

func (c *computeDetach) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	compute, err := relay.Detach(ctx, name, c.Jobs)
	if err != nil {
		return hinted{err, "`trainrelay job list --compute " + name + "` shows its jobs, `trainrelay compute list` the computes"}
	}
	if left := compute.Queued + compute.Active; left > 0 && c.NoWait {
		a.notef("compute %s is Deleting: it goes once %s have ended", name, count(left, "job"))
		return a.print(c.output, compute, formatNone, computeColumns)
	} else if left > 0 {
		if err := c.await(ctx, a, relay, compute); err != nil {
			return err
		}
	}
	a.notef("compute %s is detached", name)
	return a.print(c.output, compute, formatNone, computeColumns)
}

// await waits until the compute is gone.
func (c *computeDetach) await(ctx context.Context, a *app, relay *client.Client, compute v1.Compute) error {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for {
		moving.set(fmt.Sprintf("compute %s: Deleting; %s to end", compute.Name, count(compute.Queued+compute.Active, "job")))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limited.Done():
			return hinted{fmt.Errorf("compute %s is still Deleting after %v: %s to end", compute.Name, c.Timeout, count(compute.Queued+compute.Active, "job")),
				"it goes by itself once they have; trainrelay cluster show -n " + compute.Cluster + " tells how its agent is"}
		case <-tick.C:
		}
		now, err := relay.Compute(limited, compute.Name)
		var refused *client.APIError
		switch {
		case err == nil:
			compute = now
		case errors.As(err, &refused) && refused.Status == 404:
			return nil
		case limited.Err() == nil:
			return err
		}
	}
}

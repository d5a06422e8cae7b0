package cli

import (
	"context"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type computeCommands struct {
	Create computeCreate `cmd:"" help:"Make a compute of a cluster's namespace."`
	Show   computeShow   `cmd:"" help:"Show a compute."`
	List   computeList   `cmd:"" help:"List the computes."`
}

var computeColumns = []column{
	{"Name", "name"}, {"Cluster", "cluster"}, {"Namespace", "namespace"}, {"Queued", "queued_jobs"}, {"Active", "active_jobs"},
	{"Created", "creation_context.created_at"},
}

type computeCreate struct {
	target
	Cluster     string `required:"" help:"The cluster, as it was added." placeholder:"NAME"`
	Namespace   string `required:"" help:"The namespace that its jobs run in; it must exist in the cluster." placeholder:"NS"`
	Description string `help:"What it is for." placeholder:"TEXT"`
	output
}

func (c *computeCreate) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	compute, created, err := relay.PutCompute(ctx, v1.Compute{Name: name, Type: "kubernetes", Cluster: c.Cluster, Namespace: c.Namespace, Description: c.Description})
	if err != nil {
		return err
	}
	if !created {
		a.notef("compute %s existed already", name)
	}
	return a.print(c.output, compute, formatJSON, computeColumns)
}

type computeShow struct {
	target
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
	return a.print(c.output, compute, formatJSON, computeColumns)
}

type computeList struct{ output }

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

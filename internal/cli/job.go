package cli

import (
	"context"

	v1 "github.com/trainrelay/trainrelay/internal/v1"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/protocol"
)

type jobCommands struct {
	Create   jobCreate   `cmd:"" help:"Submit a job from a file."`
	Validate jobValidate `cmd:"" help:"Check a job file, without submitting it."`
	Show     jobShow     `cmd:"" help:"Show a job."`
	List     jobList     `cmd:"" help:"List jobs, newest first."`
	Stream   jobStream   `cmd:"" help:"Follow a job's states and output until it ends."`
	Cancel   jobCancel   `cmd:"" help:"Ask for a job's end."`
}

var jobColumns = []column{
	{"Name", "name"}, {"Status", "status"}, {"Experiment", "experiment_name"}, {"Compute", "compute"},
	{"Created", "creation_context.created_at"}, {"Reason", "reason.message"},
}

type jobShow struct {
	target
	output
}

func (c *jobShow) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	job, err := relay.Job(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay job list` shows what there is"}
	}
	return a.print(c.output, job, formatJSON, jobColumns)
}

type jobList struct {
	Status     string `help:"Only jobs in this state, such as Running." placeholder:"STATE"`
	Compute    string `help:"Only jobs of this compute." placeholder:"NAME"`
	Experiment string `name:"experiment-name" help:"Only jobs of this experiment." placeholder:"NAME"`
	MaxResults int    `short:"r" default:"50" help:"At most so many; 0 for all." placeholder:"N"`
	output
}

func (c *jobList) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	jobs := []v1.Job{}
	for job, err := range relay.Jobs(ctx, client.Query{Status: protocol.State(c.Status), Compute: c.Compute, Experiment: c.Experiment, Limit: max(c.MaxResults, 0)}) {
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	return a.print(c.output, jobs, formatTable, jobColumns)
}

type jobCancel struct {
	target
	output
}

func (c *jobCancel) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	job, err := relay.Cancel(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay job list` shows what there is"}
	}
	switch {
	case job.Status == protocol.CancelRequested:
		a.notef("job %s is being stopped in its cluster; `trainrelay job stream -n %s` waits for the end", name, name)
	case job.Status.Terminal():
		a.notef("job %s is %s", name, job.Status)
	}
	return a.print(c.output, job, formatNone, jobColumns)
}

type jobStream struct{ target }

func (c *jobStream) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, output{})
	if err != nil {
		return err
	}
	job, err := relay.Job(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay job list` shows what there is"}
	}
	return a.follow(ctx, relay, job)
}

// begin is what commands about one thing start with.
func (a *app) begin(t target, o output) (string, *client.Client, error) {
	name, err := t.name()
	if err != nil {
		return "", nil, err
	}
	if err := o.check(); err != nil {
		return "", nil, err
	}
	relay, err := a.connect()
	return name, relay, err
}

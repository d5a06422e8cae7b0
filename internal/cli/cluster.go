package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

type clusterCommands struct {
	Connect    clusterConnect    `cmd:"" help:"Let a cluster's agent join: print what installs it, or install it."`
	Show       clusterShow       `cmd:"" help:"Show a cluster."`
	List       clusterList       `cmd:"" help:"List the clusters."`
	Disconnect clusterDisconnect `cmd:"" help:"Revoke a cluster's key, cut its agent off and forget it; computes and jobs stay."`
}

var clusterColumns = []column{
	{"Name", "name"}, {"Connectivity", "connectivity_status"}, {"LastSync", "last_connectivity_time"}, {"Agent", "agent_version"},
	{"Kubernetes", "kubernetes_version"}, {"JoinUntil", "join_token_expires"}, {"Problems", "problems[0]"},
}

// clusterDetails are the columns of one cluster.
var clusterDetails = append(clusterColumns[:len(clusterColumns):len(clusterColumns)],
	column{"Nodes", "inventory.ready_nodes"}, column{"Extension", "extension"},
	column{"Proxy", "inventory.proxy"}, column{"RoundTripMs", "inventory.round_trip_ms"}, column{"Checked", "check.time"}, column{"Failed", "join(', ', check.results[?!ok && !skipped].name)"},
	column{"Incidents", "incidents.count"}, column{"LastIncident", "incidents.last.kind"},
)

type clusterShow struct {
	target
	output
}

func (c *clusterShow) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	cluster, err := relay.Cluster(ctx, name)
	if err != nil {
		return hinted{err, "`trainrelay cluster list` shows what there is"}
	}
	if err := a.print(c.output, cluster, formatJSON, clusterDetails); err != nil {
		return err
	}
	if c.Format != formatTable || c.Query != "" {
		return nil
	}
	if cluster.Inventory != nil {
		if err := a.printBelow(c.output, cluster.Inventory.Resources, resourceColumns); err != nil {
			return err
		}
	}
	if cluster.Check == nil {
		return nil
	}
	return a.printBelow(c.output, checked(cluster.Check), checkColumns)
}

// printBelow prints one more table.
func (a *app) printBelow(o output, rows any, columns []column) error {
	if _, err := fmt.Fprintln(a.io.Out); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return a.print(o, rows, formatTable, columns)
}

var resourceColumns = []column{{"Resource", "name"}, {"Allocatable", "allocatable"}, {"Free", "free"}}

var checkColumns = []column{{"Check", "name"}, {"Result", "result"}, {"Found", "found"}}

// checkRow is a line of a table about an agent's self-check.
type checkRow struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Found  string `json:"found"`
}

// checked has a row for each result, and the fix under each that failed.
func checked(check *protocol.Check) (rows []checkRow) {
	for _, r := range check.Results {
		word := "FAIL"
		switch {
		case r.OK:
			word = "ok"
		case r.Skipped:
			word = "skip"
		}
		rows = append(rows, checkRow{r.Name, word, r.Detail})
		if r.Fix != "" {
			rows = append(rows, checkRow{Found: "fix: " + r.Fix})
		}
	}
	return rows
}

type clusterList struct{ output }

func (c *clusterList) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	clusters, err := relay.Clusters(ctx)
	if err != nil {
		return err
	}
	return a.print(c.output, clusters, formatTable, clusterColumns)
}

type clusterDisconnect struct {
	target
	Jobs string `enum:"keep,cancel" default:"keep" help:"What becomes of its unfinished jobs: keep lets those that run go on, and the others wait for a cluster of that name; cancel ends all." placeholder:"keep|cancel"`
	Yes  bool   `short:"y" help:"Do not ask."`
	output
}

func (c *clusterDisconnect) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := c.confirm(ctx, a, relay, name); err != nil {
			return err
		}
	}
	gone, err := relay.Disconnect(ctx, name, c.Jobs)
	if err != nil {
		return hinted{err, "`trainrelay cluster list` shows what there is"}
	}
	a.notef("cluster %s is disconnected: its key is void, and its agent is cut off.", name)
	switch {
	case c.Jobs == v1.CancelJobs:
		if gone.CanceledJobs > 0 {
			a.notef("%s that waited: Canceled.", count(gone.CanceledJobs, "job"))
		}
		if gone.LiveJobs > 0 && gone.Told {
			a.notef("%s in the cluster: its agent stops them, and cannot report that any more.", count(gone.LiveJobs, "job"))
		} else if gone.LiveJobs > 0 {
			a.notef("warning: the agent was not told to stop %s in the cluster: delete them there (kubectl get jobs -A -l trainrelay.dev/managed-by=trainrelay-agent)", count(gone.LiveJobs, "job"))
		}
	case gone.LiveJobs > 0:
		a.notef("%s in the cluster: they go on, and are known again when the cluster is connected again.", count(gone.LiveJobs, "job"))
	}
	a.notef("The agent is still installed: helm uninstall %s --namespace %s removes it. Connect the cluster again: trainrelay cluster connect -n %s", agentRelease, agentNamespace, name)
	return a.print(c.output, gone, formatNone, nil)
}

// workOf counts the unfinished jobs of a cluster's computes.
func workOf(ctx context.Context, relay *client.Client, cluster string) (queued, live int, _ error) {
	computes, err := relay.Computes(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, compute := range computes {
		if compute.Cluster == cluster {
			queued, live = queued+compute.Queued, live+compute.Active
		}
	}
	return queued, live, nil
}

// confirm asks before work is cut off: on a terminal always, and elsewhere it
// wants to be told so where there is any.
func (c *clusterDisconnect) confirm(ctx context.Context, a *app, relay *client.Client, name string) error {
	queued, live, err := workOf(ctx, relay, name)
	if err != nil {
		return err
	}
	work := fmt.Sprintf("%s in it and %d that wait for it", count(live, "job"), queued)
	if !a.answers() {
		if live > 0 || queued > 0 && c.Jobs == v1.CancelJobs {
			return usage{fmt.Errorf("cluster %s has %s", name, work), "add --yes to disconnect it all the same; --jobs says what becomes of them"}
		}
		return nil
	}
	fate := "they go on, or wait"
	if c.Jobs == v1.CancelJobs {
		fate = "they are canceled"
	}
	return a.ask(ctx, fmt.Sprintf("Cluster %s has %s; %s.\nAre you sure you want to disconnect it?", name, work, fate), "nothing was disconnected")
}

// answers reports whether somebody is there to be asked.
func (a *app) answers() bool {
	terminal, ok := a.io.In.(io.Writer) // a terminal is one, too
	return ok && a.io.IsTerminal(terminal)
}

// ask puts a question; an answer that is not yes is an error that says no.
func (a *app) ask(ctx context.Context, question, no string) error {
	fmt.Fprintf(a.io.Err, "%s (y/n): ", question)
	answer, err := a.answer(ctx)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return usage{errors.New(no), ""}
}

// answer reads a line of the terminal. When ctx ends first, the reading ends
// with the process.
func (a *app) answer(ctx context.Context) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(a.io.In, 1<<10)).ReadString('\n')
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		if l.err != nil && !errors.Is(l.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", l.err)
		}
		return l.text, nil
	case <-ctx.Done():
		fmt.Fprintln(a.io.Err) // behind the question
		return "", context.Cause(ctx)
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type clusterCommands struct {
	Add  clusterAdd  `cmd:"" help:"Let a cluster's agent connect, and make its key."`
	Show clusterShow `cmd:"" help:"Show a cluster."`
	List clusterList `cmd:"" help:"List the clusters."`
}

var clusterColumns = []column{
	{"Name", "name"}, {"Connectivity", "connectivity_status"}, {"LastSync", "last_connectivity_time"}, {"Agent", "agent_version"},
	{"Kubernetes", "kubernetes_version"}, {"Problems", "problems[0]"},
}

type clusterAdd struct {
	target
	SecretFile string `help:"Write the key as a Kubernetes Secret to this file, readable by you alone, instead of printing it; - for stdout, to be piped into kubectl apply -f -." placeholder:"FILE"`
	output
}

func (c *clusterAdd) Run(ctx context.Context, a *app) (err error) {
	name, err := c.name()
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.SecretFile == "" && c.Format == formatNone {
		return usage{errors.New("the cluster's key would be lost: it is shown only once"), "add --secret-file FILE, or print it"}
	}
	relay, cfg, err := a.connectWith()
	if err != nil {
		return err
	}
	// The key is shown once, so there must be a place for it before it is made.
	place, err := openSecret(c.SecretFile, a.io.Out)
	if err != nil {
		return err
	}
	cluster, err := relay.AddCluster(ctx, name)
	if err != nil {
		return errors.Join(err, place.discard())
	}
	if c.SecretFile != "" {
		if err := place.write(secret(cluster.Seed, cfg.CA)); err != nil {
			return hinted{fmt.Errorf("cluster %s was added, but its key is lost: %w", name, err), "add another cluster: a key is shown only once"}
		}
	}
	a.nextSteps(cfg, cluster, c.SecretFile)
	switch c.SecretFile {
	case "":
		return a.print(c.output, cluster, formatJSON, clusterColumns)
	case "-":
		return nil
	}
	return a.print(c.output, cluster.Cluster, formatJSON, clusterColumns)
}

// nextSteps says how the agent gets its key and is installed.
func (a *app) nextSteps(cfg client.Config, cluster v1.NewCluster, file string) {
	a.notef("cluster %s was added. Next, with kubectl at the cluster (its namespace azureml must exist):", cluster.Name)
	switch file {
	case "":
		a.notef("  put the seed, which is shown this once, into the key nkey-seed of the Secret %s in namespace %s,", secretName, secretNamespace)
		a.notef("  and the relay's CA into its key relay-ca.crt; --secret-file writes that Secret for you")
	case "-":
		a.notef("  the Secret %s went to stdout; `| kubectl apply -f -` takes it to the cluster", secretName)
	default:
		a.notef("  kubectl apply -f %s && rm %s", file, file)
	}
	a.notef("  helm upgrade --install trainrelay-agent deploy/charts/trainrelay-agent --namespace %s \\", secretNamespace)
	a.notef("    --set relay.url=%s --set cluster.name=%s --set 'computeNamespaces={NAMESPACE}'", cfg.URL, cluster.Name)
	a.notef("  trainrelay compute create -n NAME --cluster %s --namespace NAMESPACE", cluster.Name)
	if at, err := url.Parse(cfg.URL); err == nil && (at.Hostname() == "localhost" || net.ParseIP(at.Hostname()).IsLoopback()) {
		a.notef("From within a cluster, %s is not this machine: start the relay with --host NAME, and use that name in relay.url.", at.Hostname())
	}
}

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
	return a.print(c.output, cluster, formatJSON, clusterColumns)
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

package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type clusterCommands struct {
	Add    clusterAdd    `cmd:"" help:"Let a cluster's agent connect, and make its key."`
	Show   clusterShow   `cmd:"" help:"Show a cluster."`
	List   clusterList   `cmd:"" help:"List the clusters."`
	Delete clusterDelete `cmd:"" help:"Revoke a cluster's key and cut its agent off; computes and jobs stay."`
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
	if c.SecretFile == "" {
		if err := c.showsSeed(name); err != nil {
			return err
		}
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
		err = errors.Join(err, place.discard())
		if refused := (*client.APIError)(nil); errors.As(err, &refused) && refused.Status == http.StatusConflict {
			return hinted{err, newKey(name)}
		}
		return err
	}
	if c.SecretFile == "" {
		err = a.print(c.output, cluster, formatJSON, clusterColumns)
	} else {
		err = place.write(secret(cluster.Seed, cfg.CA))
	}
	if err != nil {
		return hinted{fmt.Errorf("cluster %s was added, but its key is lost: %w", name, err), newKey(name)}
	}
	a.nextSteps(cfg, cluster, c.SecretFile)
	if c.SecretFile == "" || c.SecretFile == "-" {
		return nil
	}
	return a.print(c.output, cluster.Cluster, formatJSON, clusterColumns)
}

// showsSeed tries on a cluster that is made up whether what is printed would
// have the seed in it: afterwards it is too late.
func (c *clusterAdd) showsSeed(name string) error {
	seed := "SU" + rand.Text()
	text, err := c.render(v1.NewCluster{Cluster: v1.Cluster{Name: name}, Seed: seed}, formatJSON, clusterColumns)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(seed)) {
		return usage{errors.New("the cluster's key would be lost: it is shown only once, and not by this --output and --query"),
			"add --secret-file FILE, or print the seed: --query seed -o tsv"}
	}
	return nil
}

// newKey is the hint for who needs a new key.
func newKey(cluster string) string {
	return fmt.Sprintf("to make a new key: trainrelay cluster delete -n %s, then add it again; computes and jobs stay", cluster)
}

// nextSteps says how the agent gets its key and is installed.
func (a *app) nextSteps(cfg client.Config, cluster v1.NewCluster, file string) {
	a.notef("cluster %s was added. Next, with kubectl at the cluster (its namespace azureml must exist):", cluster.Name)
	// The client's configuration has the relay's own CA, if it has one.
	trust, authority := "", ", and the relay's CA into its key relay-ca.crt"
	if cfg.CA == "" {
		trust, authority = " --set relay.ca=system", ""
	}
	switch file {
	case "":
		a.notef("  put the seed, which is shown this once, into the key nkey-seed of the Secret %s in namespace %s%s;", secretName, secretNamespace, authority)
		a.notef("  --secret-file writes that Secret for you")
	case "-":
		a.notef("  the Secret %s went to stdout; `| kubectl apply -f -` takes it to the cluster", secretName)
	default:
		a.notef("  kubectl apply -f %s && rm %s", file, file)
	}
	a.notef("  helm upgrade --install trainrelay-agent deploy/charts/trainrelay-agent --namespace %s \\", secretNamespace)
	a.notef("    --set relay.url=%s --set cluster.name=%s --set 'computeNamespaces={NAMESPACE}'%s", cfg.URL, cluster.Name, trust)
	a.notef("  trainrelay compute create -n NAME --cluster %s --namespace NAMESPACE", cluster.Name)
	if cfg.CA == "" {
		a.notef("relay.ca=system trusts public authorities. Is the relay's certificate of another one, leave it out, and put that one's CA into the Secret's key relay-ca.crt.")
	}
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

type clusterDelete struct{ target }

func (c *clusterDelete) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, output{})
	if err != nil {
		return err
	}
	if err := relay.DeleteCluster(ctx, name); err != nil {
		return hinted{err, "`trainrelay cluster list` shows what there is"}
	}
	a.notef("cluster %s was deleted: its key is void, and its agent's connections are cut.", name)
	a.notef("Its computes and jobs stay; they go on when a cluster of that name is added, with a new key, and its agent connects.")
	return nil
}

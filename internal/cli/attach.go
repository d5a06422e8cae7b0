package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/jobspec"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// computeFile are the flags by which settings are given.
type computeFile struct {
	ConfigFile  string `name:"config-file" help:"The configuration file: namespace, defaultInstanceType, instanceTypes; JSON or YAML." placeholder:"FILE"`
	File        string `short:"f" help:"The compute as a file of az ml; its keys may be those of --config-file, too." placeholder:"FILE"`
	Description string `help:"What it is for." placeholder:"TEXT"`
}

// read is what the files say; empty without any.
func (c *computeFile) read() (*jobspec.ComputeSpec, error) {
	name := c.ConfigFile
	switch {
	case c.ConfigFile != "" && c.File != "":
		return nil, usage{errors.New("--config-file and --file are both given"), "give one of them"}
	case c.File != "":
		name = c.File
	}
	spec := new(jobspec.ComputeSpec)
	if name != "" {
		src, err := readFile(name)
		if err != nil {
			return nil, usage{fmt.Errorf("read the compute's file: %w", err), ""}
		}
		if spec, err = jobspec.ParseCompute(name, src); err != nil {
			return nil, err
		}
	}
	if c.Description != "" {
		spec.Description = c.Description
	}
	return spec, nil
}

type computeAttach struct {
	target
	ResourceID string `name:"resource-id" help:"The cluster by the id of a connectedCluster, as Azure writes it." placeholder:"ID"`
	Cluster    string `help:"The cluster, instead of --resource-id." placeholder:"NAME"`
	Namespace  string `help:"The namespace that its jobs run in, if not the file's; it must exist in the cluster. Default: default." placeholder:"NS"`
	Type       string `help:"Always Kubernetes, as of az ml." default:"Kubernetes" hidden:""`
	scoped
	computeFile
	NoWait bool `name:"no-wait" help:"Do not wait for the cluster's agent."`
	helm
	output
}

// scoped are flags of az that mean nothing here.
type scoped struct {
	ResourceGroup string `name:"resource-group" short:"g" help:"As of az; means nothing here." hidden:""`
	WorkspaceName string `name:"workspace-name" short:"w" help:"As of az; means nothing here." hidden:""`
}

func (c *computeAttach) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if !strings.EqualFold(c.Type, "kubernetes") {
		return usage{fmt.Errorf("--type %s is not supported", c.Type), "a compute here is of type Kubernetes"}
	}
	spec, err := c.read()
	if err != nil {
		return err
	}
	if c.Flag == "" && c.Argument == "" {
		c.Flag = spec.Name
	}
	name, err := c.name()
	if err != nil {
		return err
	}
	want, err := c.settings(spec)
	if err != nil {
		return err
	}
	if c.Apply {
		if err := c.find(a.io.Getenv); err != nil {
			return err
		}
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	settle := settling{patience: c.patience(attachPatience), noWait: c.NoWait}
	if c.Apply {
		if settle.grace, err = c.permit(ctx, a, want.Namespace); err != nil {
			return err
		}
	}
	compute, created, err := relay.PutCompute(ctx, name, want)
	if err != nil {
		return err
	}
	if !created {
		a.notef("compute %s was attached already; its settings are those given now", name)
	}
	return settle.run(ctx, a, relay, compute, c.output)
}

// How long attaching waits unless it is told, and how long after the chart was
// applied an agent may still say what was so before.
const (
	attachPatience = 2 * time.Minute
	applyGrace     = time.Minute
)

// permit lets the agent work in a namespace, with the chart's own list of them,
// and returns for how long a Failed compute may be one of before.
func (c *computeAttach) permit(ctx context.Context, a *app, namespace string) (time.Duration, error) {
	var there namespaceValues
	if err := c.valuesOf(ctx, &there); err != nil {
		return 0, err
	}
	if slices.Contains(there.ComputeNamespaces, namespace) {
		return 0, nil
	}
	there.ComputeNamespaces = append(there.ComputeNamespaces, namespace)
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	moving.set("helm lets the agent work in namespace " + namespace)
	if err := c.upgrade(ctx, &there); err != nil {
		return 0, hinted{err, "the namespace has to exist: kubectl create namespace " + namespace}
	}
	moving.hide(func() {
		a.notef("the chart lets the agent work in namespaces %s", strings.Join(there.ComputeNamespaces, ", "))
	})
	return applyGrace, nil
}

// namespaceValues are those of the chart that say where jobs may be.
type namespaceValues struct {
	ComputeNamespaces []string `json:"computeNamespaces"`
}

func (v *namespaceValues) text() ([]byte, error)   { return json.Marshal(v) }
func (v *namespaceValues) hide(text string) string { return text }

// settings puts the flags over the file.
func (c *computeAttach) settings(spec *jobspec.ComputeSpec) (v1.ComputeBody, error) {
	want := v1.ComputeBody{ResourceID: spec.ResourceID}
	if c.ResourceID != "" {
		want.ResourceID = c.ResourceID
	}
	want.Cluster = c.Cluster
	if want.ResourceID != "" {
		cluster, err := clusterOf(want.ResourceID)
		if err != nil {
			return want, usage{err, "or name the cluster: --cluster NAME"}
		}
		if want.Cluster != "" && want.Cluster != cluster {
			return want, usage{fmt.Errorf("--cluster %s is not the one of the resource id, %s", want.Cluster, cluster), "give one of them"}
		}
		want.Cluster = cluster
	}
	if want.Cluster == "" {
		return want, usage{errors.New("the cluster is missing"), "add --cluster NAME or --resource-id ID; `trainrelay cluster list` shows the clusters"}
	}
	want.Description, want.ComputeSettings.ComputeSettings = spec.Description, spec.ComputeSettings
	want.Namespace = first(c.Namespace, spec.Namespace, "default")
	return want, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// Azure compares its ids without regard to case.
var resourceRE = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Kubernetes/connectedClusters/([^/]+)/?$`)

// clusterOf is the name of the cluster that an Azure resource id names.
func clusterOf(id string) (string, error) {
	m := resourceRE.FindStringSubmatch(id)
	if m == nil {
		return "", fmt.Errorf("invalid resource_id provided: %q: expected /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Kubernetes/connectedClusters/NAME", id)
	}
	return strings.ToLower(m[1]), nil
}

// settling is the waiting for an agent to look at a compute.
type settling struct {
	noWait   bool
	patience time.Duration
	grace    time.Duration // how long Failed is not final
}

// run waits until the agent has looked at the compute, and prints it.
func (s settling) run(ctx context.Context, a *app, relay *client.Client, compute v1.Compute, out output) error {
	if s.noWait {
		return a.print(out, compute, formatJSON, computeColumns)
	}
	compute, err := s.await(ctx, a, relay, compute)
	if err != nil {
		return err
	}
	for _, warning := range compute.Warnings {
		a.notef("warning: %s", warning)
	}
	err = a.print(out, compute, formatJSON, computeColumns)
	if compute.ProvisioningState == v1.Failed {
		err = errors.Join(err, hinted{fmt.Errorf("compute %s is Failed: %s", compute.Name, strings.Join(compute.ProvisioningErrors, "\n")),
			"it turns Succeeded by itself once that is mended: trainrelay compute show -n " + compute.Name})
	}
	return err
}

// await waits while the agent can be expected to look.
func (s settling) await(ctx context.Context, a *app, relay *client.Client, compute v1.Compute) (v1.Compute, error) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for !compute.ProvisioningState.Final() || compute.ProvisioningState == v1.Failed && time.Since(began) < s.grace {
		moving.set(fmt.Sprintf("compute %s: %s; waiting for the agent of cluster %s", compute.Name, compute.ProvisioningState, compute.Cluster))
		cluster, err := relay.Cluster(limited, compute.Cluster)
		if err == nil && cluster.Connectivity != v1.Connected && s.grace == 0 {
			moving.hide(func() {
				a.notef("cluster %s is %s: its agent looks at the compute once it is connected; until then it is %s", cluster.Name, cluster.Connectivity, compute.ProvisioningState)
			})
			return compute, nil
		}
		select {
		case <-ctx.Done():
			return compute, context.Cause(ctx)
		case <-limited.Done():
			return compute, hinted{fmt.Errorf("compute %s is still %s after %v", compute.Name, compute.ProvisioningState, s.patience),
				"trainrelay cluster show -n " + compute.Cluster + " tells how its agent is"}
		case <-tick.C:
		}
		now, err := relay.Compute(limited, compute.Name)
		switch {
		case err == nil:
			compute = now
		case limited.Err() == nil:
			return compute, err
		}
	}
	return compute, nil
}

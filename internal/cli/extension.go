package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/extension"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type extensionCommands struct {
	Create extensionCreate `cmd:"" help:"Say what is to be installed in a cluster: print what installs it, or install it."`
	Update extensionUpdate `cmd:"" help:"Change settings; the others stay. Without any, print or apply it as it is."`
	Show   extensionShow   `cmd:"" help:"Show an extension, and whether it is installed."`
	List   extensionList   `cmd:"" help:"List the extensions of a cluster."`
	Delete extensionDelete `cmd:"" help:"Forget an extension: print what takes its components away, or take them away."`
}

var extensionColumns = []column{
	{"Name", "name"}, {"ExtensionType", "extensionType"}, {"InstallState", "installState"}, {"Version", "version"},
	{"LastModified", "lastModifiedTime"}, {"Reason", "installStateReason"},
}

// azure are the flags of az k8s-extension that say where something is. What
// they say has to fit, though only the cluster's name is needed.
type azure struct {
	Cluster string `name:"cluster-name" short:"c" required:"" help:"The cluster, as it was connected." placeholder:"NAME"`
	Group   string `name:"resource-group" short:"g" help:"Azure's resource group; accepted, and nothing follows from it." placeholder:"NAME"`
	Kind    string `name:"cluster-type" short:"t" help:"connectedClusters, the only one there is." placeholder:"TYPE"`
}

var groupRE = regexp.MustCompile(`^[\p{L}\p{N}_.()-]{0,89}[\p{L}\p{N}_()-]$`)

func (z *azure) sensible() error {
	switch {
	case z.Kind != "" && !strings.EqualFold(z.Kind, extension.ClusterType):
		return usage{fmt.Errorf("--cluster-type: there are no clusters of type %q here; the valid one is %s", z.Kind, extension.ClusterType), ""}
	case z.Group != "" && !groupRE.MatchString(z.Group):
		return usage{fmt.Errorf("--resource-group: %q is not the name of a resource group: 1 to 90 letters, digits, _, -, ., ( and ), without a dot at the end", z.Group), ""}
	}
	return nil
}

// begin checks what every command has in common.
func (z *azure) begin(a *app, t target, o output) (name string, relay *client.Client, err error) {
	if err := z.sensible(); err != nil {
		return "", nil, err
	}
	return a.begin(t, o)
}

func (z *azure) hint(err error) error {
	return hinted{err, "`trainrelay k8s-extension list --cluster-name " + z.Cluster + "` shows what there is"}
}

type extensionShow struct {
	target
	azure
	output
}

func (c *extensionShow) Run(ctx context.Context, a *app) error {
	name, relay, err := c.azure.begin(a, c.target, c.output)
	if err != nil {
		return err
	}
	shown, err := relay.Extension(ctx, c.Cluster, name)
	if err != nil {
		return c.hint(err)
	}
	if err := a.print(c.output, shown, formatJSON, extensionColumns); err != nil {
		return err
	}
	if c.Format != formatTable || c.Query != "" || len(shown.Statuses) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.io.Out); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return a.print(c.output, shown.Statuses, formatTable, []column{{"Component", "code"}, {"State", "displayStatus"}, {"Found", "message"}})
}

type extensionList struct {
	azure
	output
}

func (c *extensionList) Run(ctx context.Context, a *app) error {
	if err := errors.Join(c.sensible(), c.check()); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	extensions, err := relay.Extensions(ctx, c.Cluster)
	if err != nil {
		return hinted{err, "`trainrelay cluster list` shows what there is"}
	}
	return a.print(c.output, extensions, formatTable, extensionColumns)
}

type extensionDelete struct {
	target
	azure
	Yes    bool `short:"y" help:"Do not ask."`
	Force  bool `help:"Accepted as of az; a deletion waits for nothing here."`
	NoWait bool `name:"no-wait" help:"Likewise."`
	helm
	output
}

func (c *extensionDelete) Run(ctx context.Context, a *app) error {
	name, relay, err := c.azure.begin(a, c.target, c.output)
	if err != nil {
		return err
	}
	if c.Apply {
		if err := c.find(a.io.Getenv); err != nil {
			return err
		}
	}
	if _, err := relay.Extension(ctx, c.Cluster, name); err != nil {
		return c.hint(err)
	}
	if !c.Yes {
		if err := c.confirm(ctx, a, relay, name); err != nil {
			return err
		}
	}
	var none extensionValues // takes away what is there
	if c.Apply {
		// First: where it fails, the extension is still there to be seen.
		if err := c.run(ctx, a, &none); err != nil {
			return err
		}
	}
	if err := relay.DeleteExtension(ctx, c.Cluster, name); err != nil {
		return c.hint(err)
	}
	a.notef("extension %s of cluster %s is deleted.", name, c.Cluster)
	if c.Apply || c.Format == formatNone {
		return nil
	}
	line, err := c.line(&none)
	if err != nil {
		return err
	}
	a.notef("What it installed stays until this is run, where helm reaches cluster %s and the chart of this version is; --apply does so from here.", c.Cluster)
	if _, err := fmt.Fprint(a.io.Out, line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (c *extensionDelete) run(ctx context.Context, a *app, none *extensionValues) error {
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	moving.set("helm takes the components away")
	if err := c.upgrade(ctx, none); err != nil {
		return hinted{err, "nothing was deleted at the relay; the same command tries again"}
	}
	return nil
}

func (c *extensionDelete) confirm(ctx context.Context, a *app, relay *client.Client, name string) error {
	queued, live, err := workOf(ctx, relay, c.Cluster)
	if err != nil {
		return err
	}
	work := fmt.Sprintf("%s in cluster %s and %d that wait for it", count(live, "job"), c.Cluster, queued)
	if !a.answers() {
		if live > 0 {
			return usage{fmt.Errorf("there are %s, which may use what extension %s has installed", work, name), "add --yes to delete it all the same"}
		}
		return nil
	}
	return a.ask(ctx, fmt.Sprintf("There are %s; they may use what extension %s has installed.\nAre you sure you want to delete it?", work, name), "nothing was deleted")
}

// extensionPrinted is what scripts are given by commands that may change what
// is to be applied.
type extensionPrinted struct {
	v1.Extension
	Values *extensionValues `json:"chartValues"`
}

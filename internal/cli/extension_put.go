package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/extension"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// extensionPut is what create and update have in common.
type extensionPut struct {
	Name     string   `name:"name" short:"n" required:"" help:"Its name." placeholder:"NAME"`
	Settings []string `name:"configuration-settings" aliases:"config-settings" help:"Settings, KEY=VALUE; repeatable, and several may follow." placeholder:"KEY=VALUE"`
	// More are the settings that follow one of the flag's, as az takes them.
	More []string `arg:"" optional:"" name:"key=value" help:"More settings."`
	azure
	Train  string `name:"release-train" help:"stable, the only one there is." placeholder:"TRAIN"`
	Auto   string `name:"auto-upgrade-minor-version" aliases:"auto-upgrade" enum:",true,false,True,False" default:"" help:"false: nothing is upgraded but by an admin." placeholder:"false"`
	NoWait bool   `name:"no-wait" help:"With --apply: do not wait until it is installed."`
	Yes    bool   `short:"y" help:"Do not ask."`
	helm
	output
}

// given checks what was typed and returns the settings.
func (c *extensionPut) given() (map[string]string, error) {
	settings, err := extension.Parse(append(c.Settings[:len(c.Settings):len(c.Settings)], c.More...))
	if err != nil {
		err = usage{fmt.Errorf("--configuration-settings: %w", err), "docs/extension.md says what each does"}
	}
	return settings, together(c.sensible(), err, c.harmless(), c.check())
}

// together is all that is wrong with a command line, as one error.
func together(errs ...error) error {
	var words []string
	hint := ""
	for _, err := range errs {
		if err == nil {
			continue
		}
		words = append(words, err.Error())
		if wrong := (usage{}); errors.As(err, &wrong) {
			hint = cmp.Or(hint, wrong.hint)
		}
	}
	if words == nil {
		return nil
	}
	return usage{errors.New(strings.Join(words, "; ")), hint}
}

// harmless refuses what flags of az ask for that there is not.
func (c *extensionPut) harmless() error {
	switch {
	case c.Train != "" && !strings.EqualFold(c.Train, "stable"):
		return usage{fmt.Errorf("--release-train: there is no train %q; the valid one is stable", c.Train), ""}
	case strings.EqualFold(c.Auto, "true"):
		return usage{errors.New("--auto-upgrade-minor-version: nothing upgrades itself in a cluster that the cloud has no rights in"), "leave it out, or say false"}
	}
	return nil
}

type extensionCreate struct {
	extensionPut
	Type  string `name:"extension-type" required:"" help:"Microsoft.AzureML.Kubernetes." placeholder:"TYPE"`
	Scope string `name:"scope" default:"cluster" help:"cluster, the only one there is (default ${default})." placeholder:"SCOPE"`
	Space string `name:"release-namespace" help:"azureml, where everything is." placeholder:"NS"`
}

func (c *extensionCreate) Run(ctx context.Context, a *app) error {
	settings, err := c.given()
	if err := together(err, c.fits()); err != nil {
		return err
	}
	return c.put(ctx, a, func(relay *client.Client) (v1.Extension, error) {
		made, created, err := relay.PutExtension(ctx, c.Cluster, c.Name, v1.ExtensionSettings{ExtensionType: c.Type, Settings: settings})
		if err == nil && !created {
			a.notef("extension %s was there already; it has these settings now", c.Name)
		}
		return made, err
	})
}

func (c *extensionCreate) fits() error {
	switch {
	case !strings.EqualFold(c.Scope, extension.Scope):
		return usage{fmt.Errorf("--scope: this extension cannot be installed at scope %q; the valid one is %s", c.Scope, extension.Scope), ""}
	case !strings.EqualFold(c.Type, extension.Type):
		return usage{fmt.Errorf("--extension-type: there is no type %q; the valid one is %s", c.Type, extension.Type), ""}
	case c.Space != "" && c.Space != extension.Namespace:
		return usage{fmt.Errorf("--release-namespace: everything is in %s, and nothing can be in %q", extension.Namespace, c.Space), ""}
	}
	return nil
}

type extensionUpdate struct{ extensionPut }

func (c *extensionUpdate) Run(ctx context.Context, a *app) error {
	given, err := c.given()
	if err != nil {
		return err
	}
	return c.put(ctx, a, func(relay *client.Client) (v1.Extension, error) {
		now, err := relay.Extension(ctx, c.Cluster, c.Name)
		if err != nil {
			return now, c.hint(err)
		}
		next := maps.Clone(now.Settings)
		maps.Copy(next, given)
		change := extension.Differ(extension.Resolve(now.Settings), extension.Resolve(next))
		if change == "" && maps.Equal(next, now.Settings) {
			return now, nil // as it is, to be printed or applied
		}
		if err := c.confirm(ctx, a, relay, change); err != nil {
			return now, err
		}
		changed, _, err := relay.PutExtension(ctx, c.Cluster, c.Name, v1.ExtensionSettings{Settings: next, Revision: now.Revision})
		return changed, err
	})
}

// confirm asks where jobs run that the change may touch.
func (c *extensionUpdate) confirm(ctx context.Context, a *app, relay *client.Client, change string) error {
	if c.Yes || change == "" {
		return nil
	}
	_, live, err := workOf(ctx, relay, c.Cluster)
	if err != nil || live == 0 {
		return err
	}
	what := fmt.Sprintf("%s of cluster %s may be impacted: %s", count(live, "active job"), c.Cluster, change)
	if !a.answers() {
		return usage{errors.New(what), "add --yes to update all the same"}
	}
	return a.ask(ctx, what+".\nDo you want to proceed?", "nothing was updated")
}

// put changes what the relay wants, and prints or applies it.
func (c *extensionPut) put(ctx context.Context, a *app, change func(*client.Client) (v1.Extension, error)) error {
	if c.Apply {
		if err := c.find(a.io.Getenv); err != nil {
			return err
		}
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	wanted, err := change(relay)
	if err != nil {
		return err
	}
	for _, note := range wanted.Notes {
		a.notef("note: %s", note)
	}
	values := valuesOf(wanted.Effective)
	if c.Apply {
		if wanted, err = c.apply(ctx, a, relay, wanted, values); err != nil {
			return err
		}
		return a.print(c.output, wanted, formatJSON, extensionColumns)
	}
	if c.Format != "" || c.Query != "" {
		return a.print(c.output, extensionPrinted{wanted, values}, formatJSON, extensionColumns)
	}
	line, err := c.line(values)
	if err != nil {
		return err
	}
	a.notef("Run this where helm reaches cluster %s and the chart of this version is; --apply does so from here.", c.Cluster)
	a.notef("Then: trainrelay k8s-extension show --name %s --cluster-name %s", c.Name, c.Cluster)
	if _, err := fmt.Fprint(a.io.Out, line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// apply runs helm and waits until the cluster's agent has seen it all.
func (c *extensionPut) apply(ctx context.Context, a *app, relay *client.Client, wanted v1.Extension, values *extensionValues) (v1.Extension, error) {
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	moving.set("helm installs the extension")
	if err := c.upgrade(ctx, values); err != nil {
		return wanted, hinted{err, "the agent has to be there already: trainrelay cluster connect --name " + c.Cluster + " --apply"}
	}
	moving.hide(func() { a.notef("the chart is applied in namespace %s", agentNamespace) })
	if c.NoWait {
		return wanted, nil
	}
	return c.await(ctx, relay, wanted, moving)
}

// lookPatience is how long a failure of before may be all that is known: the
// agent looks every few seconds.
const lookPatience = 30 * time.Second

func (c *extensionPut) await(ctx context.Context, relay *client.Client, wanted v1.Extension, moving *line) (v1.Extension, error) {
	patience, begun, before := c.patience(extensionPatience), time.Now(), lookedAt(wanted)
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	hint := fmt.Sprintf("it goes on by itself; see trainrelay k8s-extension show --name %s --cluster-name %s", c.Name, c.Cluster)
	for {
		now, err := relay.Extension(waiting, c.Cluster, c.Name)
		switch {
		case err == nil:
			wanted = now
		case waiting.Err() == nil:
			return wanted, err
		}
		switch {
		case wanted.InstallState == protocol.Installed:
			return wanted, nil
		case wanted.InstallState == protocol.InstallFailed && (lookedAt(wanted).After(before) || time.Since(begun) > lookPatience):
			return wanted, hinted{fmt.Errorf("extension %s of cluster %s has Failed: %s", c.Name, c.Cluster, wanted.Reason), hint}
		}
		moving.set("waiting: " + wanted.Reason)
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return wanted, context.Cause(ctx)
			}
			return wanted, hinted{fmt.Errorf("extension %s of cluster %s is still %s after %v: %s", c.Name, c.Cluster, wanted.InstallState, patience, wanted.Reason), hint}
		case <-tick.C:
		}
	}
}

// lookedAt is when the cluster's agent looked last.
func lookedAt(e v1.Extension) time.Time {
	if e.LastStatus == nil {
		return time.Time{}
	}
	return *e.LastStatus
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/jobspec"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type environmentCommands struct {
	Create environmentCreate `cmd:"" help:"Register a version of an environment."`
	Show   environmentShow   `cmd:"" help:"Show a version of an environment."`
	List   environmentList   `cmd:"" help:"List versions of environments, of each the newest first."`
	Delete environmentDelete `cmd:"" help:"Forget a version of an environment; jobs that were made with it keep their image."`
}

var environmentColumns = []column{
	{"Name", "name"}, {"Version", "version"}, {"Image", "image"}, {"Created", "creation_context.created_at"}, {"CreatedBy", "creation_context.created_by"},
}

// assetVersion is --version of az; see azVersion.
type assetVersion struct {
	AssetVersion string `name:"asset-version" short:"v" help:"Its version, likewise --version; or NAME:VERSION as the name." placeholder:"VERSION"`
}

// split takes a name of the form NAME:VERSION apart. The version is empty where
// none is given.
func (v assetVersion) split(name string) (string, string, error) {
	name, version, both := strings.Cut(name, ":")
	if both && v.AssetVersion != "" && v.AssetVersion != version {
		return "", "", usage{fmt.Errorf("two versions: %q and %q", version, v.AssetVersion), "give one"}
	}
	if !both {
		version = v.AssetVersion
	}
	return name, version, nil
}

type environmentCreate struct {
	target
	assetVersion
	File        string            `short:"f" help:"The environment as a file of az ml." placeholder:"FILE"`
	Image       string            `short:"i" help:"The image, as registry/repository:tag." placeholder:"IMAGE"`
	Description string            `help:"What it is for." placeholder:"TEXT"`
	Tags        map[string]string `help:"Tags, as key=value; may be repeated." placeholder:"KEY=VALUE"`
	scoped
	output
}

func (c *environmentCreate) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	spec, err := c.read()
	if err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	made, created, err := a.register(ctx, relay, spec)
	if err != nil {
		return err
	}
	if !created {
		a.notef("environment %s:%s was there already, with this image", made.Name, made.Version)
	}
	return a.print(c.output, made, formatJSON, environmentColumns)
}

// read joins what the file and the flags say; flags win.
func (c *environmentCreate) read() (*jobspec.EnvironmentSpec, error) {
	spec := new(jobspec.EnvironmentSpec)
	if c.File != "" {
		src, err := readFile(c.File)
		if err != nil {
			return nil, usage{fmt.Errorf("read the environment's file: %w", err), ""}
		}
		if spec, err = jobspec.ParseEnvironment(c.File, src); err != nil {
			return nil, err
		}
	}
	if c.Flag == "" && c.Argument == "" {
		c.Flag = spec.Name
	}
	name, err := c.name()
	if err != nil {
		return nil, err
	}
	name, version, err := c.split(name)
	if err != nil {
		return nil, err
	}
	for into, value := range map[*string]string{&spec.Name: name, &spec.Version: version, &spec.Image: c.Image, &spec.Description: c.Description} {
		if value != "" {
			*into = value
		}
	}
	if len(c.Tags) > 0 {
		spec.Tags = c.Tags
	}
	if spec.Image == "" {
		return nil, usage{errors.New("the environment has no image"), "add --image registry/repository:tag, or image to the file"}
	}
	return spec, nil
}

// register registers the version, or where none is given the number behind the
// highest that there is.
func (a *app) register(ctx context.Context, relay *client.Client, spec *jobspec.EnvironmentSpec) (made v1.EnvironmentVersion, created bool, err error) {
	if spec.Version != "" {
		return relay.PutEnvironment(ctx, spec.Name, spec.Version, spec.EnvironmentSettings)
	}
	for range 5 {
		all, err := relay.Environments(ctx, spec.Name)
		if err != nil {
			return made, false, err
		}
		highest := 0
		for _, e := range all {
			if n, err := strconv.Atoi(e.Version); err == nil {
				highest = max(highest, n)
			}
		}
		made, created, err = relay.PutEnvironment(ctx, spec.Name, strconv.Itoa(highest+1), spec.EnvironmentSettings)
		if refused := new(client.APIError); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
			return made, created, err
		}
	}
	return made, false, hinted{fmt.Errorf("others register versions of environment %s at the same time", spec.Name), "give a version of your own with --version"}
}

type environmentShow struct {
	target
	assetVersion
	Label string `short:"l" help:"latest, for the version that was registered last." placeholder:"LABEL"`
	scoped
	output
}

func (c *environmentShow) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	name, label, labelled := strings.Cut(name, "@")
	if labelled {
		c.Label = label
	}
	name, version, err := c.split(name)
	switch {
	case err != nil:
		return err
	case c.Label != "" && c.Label != v1.LatestVersion:
		return usage{fmt.Errorf("there is no label %q", c.Label), "the label that there is is latest"}
	case c.Label != "":
		version = c.Label
	case version == "":
		return usage{fmt.Errorf("which version of %s is missing", name), "add --version VERSION, or --label latest"}
	}
	environment, err := relay.Environment(ctx, name, version)
	if err != nil {
		return hinted{err, "`trainrelay environment list` shows what there is"}
	}
	return a.print(c.output, environment, formatJSON, environmentColumns)
}

type environmentList struct {
	Name string `short:"n" help:"Only versions of this environment." placeholder:"NAME"`
	scoped
	output
}

func (c *environmentList) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	environments, err := relay.Environments(ctx, c.Name)
	if err != nil {
		return err
	}
	return a.print(c.output, environments, formatTable, environmentColumns)
}

type environmentDelete struct {
	target
	assetVersion
	Yes bool `short:"y" help:"As of az; nothing is asked here."`
	scoped
	output
}

func (c *environmentDelete) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, c.output)
	if err != nil {
		return err
	}
	name, version, err := c.split(name)
	if err != nil {
		return err
	}
	if version == "" {
		return usage{fmt.Errorf("which version of %s is missing", name), "add --version VERSION"}
	}
	if err := relay.DeleteEnvironment(ctx, name, version); err != nil {
		return hinted{err, "`trainrelay environment list` shows what there is"}
	}
	a.notef("environment %s:%s was deleted", name, version)
	return nil
}

// imageOf is the image of a registered environment.
func (a *app) imageOf(ctx context.Context, relay *client.Client, asset jobspec.Asset) (string, error) {
	environment, err := relay.Environment(ctx, asset.Name, asset.Version)
	if err != nil {
		return "", hinted{err, "`trainrelay environment list` shows what there is, `trainrelay environment create` registers more; nothing was submitted"}
	}
	return environment.Image, nil
}

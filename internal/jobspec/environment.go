package jobspec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// EnvironmentSpec is the checked file of an environment. What the file does not
// say is empty.
type EnvironmentSpec struct {
	Name    string
	Version string
	v1.EnvironmentSettings
}

// ParseEnvironment reads the file of an environment of Azure ML's CLI v2;
// filename is for messages only. The error is an *Error with all the problems at
// once.
func ParseEnvironment(filename string, src []byte) (*EnvironmentSpec, error) {
	c := checker{file: source{name: filename}, environment: new(EnvironmentSpec)}
	file, bad := readSource(filename, src)
	c.file = file
	if bad != nil {
		return nil, newError([]Problem{*bad})
	}
	if root := c.tree(); root != nil {
		c.walk(root, "", environmentFile)
	}
	if len(c.problems) > 0 {
		return nil, newError(c.problems)
	}
	return c.environment, nil
}

var environmentFile = schema{
	"$schema":     {read: func(*checker, *node, string) {}},
	"name":        {read: intoEnvironment(func(e *EnvironmentSpec) *string { return &e.Name }, v1.CheckEnvironmentName)},
	"version":     {read: intoEnvironment(func(e *EnvironmentSpec) *string { return &e.Version }, v1.CheckEnvironmentVersion)},
	"image":       {read: func(c *checker, n *node, key string) { c.environment.Image = c.image(n, key) }},
	"description": {read: intoEnvironment(func(e *EnvironmentSpec) *string { return &e.Description }, nil)},
	"tags": {read: func(c *checker, n *node, key string) {
		c.environment.Tags = c.texts(n, key, protocol.MaxTags)
	}},
	"os_type": {read: func(c *checker, n *node, key string) {
		if text, ok := c.text(n, key); ok && !strings.EqualFold(text, "linux") {
			c.report(n.at, key, fmt.Sprintf("os_type is %s; jobs run on linux", quote(text)), "")
		}
	}},

	"conda_file":       {hint: "nothing is built here: build an image that has the packages, push it, and name it in image"},
	"build":            {hint: "nothing is built here: build the image, push it, and name it in image"},
	"inference_config": {hint: "remove it: it is for serving, not for training"},
	"properties":       {},

	"id":               {readOnly: true},
	"creation_context": {readOnly: true},
}

func intoEnvironment(field func(*EnvironmentSpec) *string, check func(string) error) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		text, ok := c.text(n, key)
		if !ok {
			return
		}
		if check != nil {
			if err := check(text); err != nil {
				c.report(n.at, key, err.Error(), "")
			}
		}
		*field(c.environment) = text
	}
}

// Asset is a registered environment that a job file names.
type Asset struct {
	Name, Version string // v1.LatestVersion for the newest
}

// parseAsset reads NAME:VERSION or NAME@latest.
func parseAsset(text string) (Asset, error) {
	if name, label, labelled := strings.Cut(text, "@"); labelled {
		if err := v1.CheckEnvironmentName(name); err != nil {
			return Asset{}, err
		}
		if label != v1.LatestVersion {
			return Asset{}, fmt.Errorf("%s is no label of %s: the one that there is is %s", quote(label), quote(name), v1.LatestVersion)
		}
		return Asset{name, label}, nil
	}
	name, version, ok := strings.Cut(text, ":")
	if !ok {
		return Asset{}, fmt.Errorf("%s has no version", quote(text))
	}
	return Asset{name, version}, errors.Join(v1.CheckEnvironmentName(name), v1.CheckEnvironmentVersion(version))
}

// registered reads the azureml: reference of an environment.
func (c *checker) registered(n *node, key, text string) {
	if strings.HasPrefix(text, "/") {
		c.report(n.at, key, "environments of Azure's own registries and workspaces are not known here", "give the image that it stands for, as `image: REGISTRY/REPOSITORY:TAG`")
		return
	}
	asset, err := parseAsset(text)
	if err != nil {
		c.report(n.at, key, err.Error(), "write azureml:NAME:VERSION or azureml:NAME@latest; `trainrelay environment list` shows what there is")
		return
	}
	c.spec.Environment = &asset
}

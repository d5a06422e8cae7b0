package v1

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// EnvironmentVersion is a version of a registered environment. Its image never
// changes.
type EnvironmentVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	EnvironmentSettings
	CreationContext CreationContext `json:"creation_context"`
	Modified        time.Time       `json:"modified_time" doc:"of the description or a tag"`
}

// EnvironmentSettings is the body of registering a version of an environment.
type EnvironmentSettings struct {
	Image       string            `json:"image" maxLength:"2000"`
	Description string            `json:"description,omitempty" maxLength:"2000"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// EnvironmentList holds versions of environments, by name, newest first.
type EnvironmentList struct {
	Value []EnvironmentVersion `json:"value"`
}

// LatestVersion is the label of the version that was registered last.
const LatestVersion = "latest"

// Bounds of names, of Azure ML.
const (
	maxAssetName    = 255
	maxAssetVersion = 30
)

var assetRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)

// CheckAsset says what is wrong with the name and the version of an environment.
func CheckAsset(name, version string) error {
	var errs []error
	for _, of := range []struct {
		what, text string
		most       int
	}{{"name", name, maxAssetName}, {"version", version, maxAssetVersion}} {
		if len(of.text) > of.most || !assetRE.MatchString(of.text) || strings.Contains(of.text, "..") {
			errs = append(errs, fmt.Errorf("%q is not an environment's %s: 1 to %d letters, digits, single dots, - and _, starting and ending with a letter or digit",
				protocol.Cut(of.text, 80), of.what, of.most))
		}
	}
	if version == LatestVersion {
		errs = append(errs, fmt.Errorf("%s is no version: it stands for the one that was registered last", LatestVersion))
	}
	return errors.Join(errs...)
}

// Check says what is wrong with the settings.
func (s *EnvironmentSettings) Check() error {
	err := protocol.CheckImage(s.Image)
	if len(s.Tags) > protocol.MaxTags {
		err = errors.Join(err, fmt.Errorf("tags: %d entries, at most %d are allowed", len(s.Tags), protocol.MaxTags))
	}
	return err
}

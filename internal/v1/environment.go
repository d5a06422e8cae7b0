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

// CheckEnvironmentName says what is wrong with the name of an environment.
func CheckEnvironmentName(name string) error { return checkAsset("name", name, maxAssetName) }

// CheckEnvironmentVersion says what is wrong with the version of an environment.
func CheckEnvironmentVersion(version string) error {
	if version == LatestVersion {
		return fmt.Errorf("%s is no version: it stands for the one that was registered last", LatestVersion)
	}
	return checkAsset("version", version, maxAssetVersion)
}

func checkAsset(what, text string, most int) error {
	if len(text) > most || !assetRE.MatchString(text) || strings.Contains(text, "..") {
		return fmt.Errorf("%q is not an environment's %s: 1 to %d letters, digits, single dots, - and _, starting and ending with a letter or digit", protocol.Cut(text, 80), what, most)
	}
	return nil
}

// Check says what is wrong with the settings.
func (s *EnvironmentSettings) Check() error {
	err := protocol.CheckImage(s.Image)
	if len(s.Tags) > protocol.MaxTags {
		err = errors.Join(err, fmt.Errorf("tags: %d entries, at most %d are allowed", len(s.Tags), protocol.MaxTags))
	}
	return err
}

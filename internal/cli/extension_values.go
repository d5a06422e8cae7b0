package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/trainrelay/trainrelay/internal/extension"
)

// extensionValues are those of the agent's chart that install the extension;
// none take it away. All of them are given each time, so that none stays of
// what was applied before.
type extensionValues struct {
	Extension *extensionChart `json:"extension" yaml:"extension"`
}

type extensionChart struct {
	EnableTraining            bool   `json:"enableTraining" yaml:"enableTraining"`
	LogAnalyticsWS            bool   `json:"logAnalyticsWS" yaml:"logAnalyticsWS"`
	InstallNvidiaDevicePlugin bool   `json:"installNvidiaDevicePlugin" yaml:"installNvidiaDevicePlugin"`
	InstallBlobfuseSysctl     bool   `json:"installBlobfuseSysctl" yaml:"installBlobfuseSysctl"`
	InstallBlobfuseFlexvol    bool   `json:"installBlobfuseFlexvol" yaml:"installBlobfuseFlexvol"`
	VolumePluginDir           string `json:"volumePluginDir" yaml:"volumePluginDir"`
	ImageMirror               string `json:"imageMirror" yaml:"imageMirror"`
	// NodeSelector is a list of KEY=VALUE: helm would add a map to the one that
	// was applied before.
	NodeSelector []string `json:"nodeSelector" yaml:"nodeSelector"`
}

// valuesOf makes the chart's values of all settings that hold.
func valuesOf(settings map[string]string) *extensionValues {
	on := func(key string) bool { return settings[key] == extension.True }
	chart := &extensionChart{
		EnableTraining: on(extension.EnableTraining), LogAnalyticsWS: on(extension.LogAnalyticsWS),
		InstallNvidiaDevicePlugin: on(extension.InstallNvidiaDevicePlugin),
		InstallBlobfuseSysctl:     on(extension.InstallBlobfuseSysctl), InstallBlobfuseFlexvol: on(extension.InstallBlobfuseFlexvol),
		VolumePluginDir: settings[extension.VolumePluginDir], ImageMirror: settings[extension.ImageMirror],
		NodeSelector: []string{},
	}
	labels := extension.Labels(settings)
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		chart.NodeSelector = append(chart.NodeSelector, key+"="+labels[key])
	}
	return &extensionValues{Extension: chart}
}

func (v *extensionValues) text() ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("the chart's values: %w", err)
	}
	return text, nil
}

// hide has nothing to hide: no setting is a secret.
func (*extensionValues) hide(text string) string { return text }

// Package extension is what the settings of the extension
// Microsoft.AzureML.Kubernetes are: which there are, what values they take and
// what holds where one is not given. The command line, the relay and the agent
// read them by the same rules.
//
// Nothing here looks at a cluster. An error names every setting that is wrong
// and lists those that there are.
package extension

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// What there is only one of.
const (
	Type        = "Microsoft.AzureML.Kubernetes"
	Scope       = "cluster"
	ClusterType = "connectedClusters"
	Namespace   = "azureml" // of all its components
)

// The settings.
const (
	EnableTraining            = "enableTraining"
	LogAnalyticsWS            = "logAnalyticsWS"
	InstallNvidiaDevicePlugin = "installNvidiaDevicePlugin"
	InstallBlobfuseSysctl     = "installBlobfuseSysctl"
	InstallBlobfuseFlexvol    = "installBlobfuseFlexvol"
	VolumePluginDir           = "volumePluginDir"
	ImageMirror               = "imageMirror"
	// NodeSelector stands before the key of a label: nodeSelector.KEY=VALUE.
	NodeSelector = "nodeSelector."
)

// The values of a switch.
const (
	True  = "True"
	False = "False"
)

// DefaultVolumePluginDir is where the kubelet's plugins were looked for.
const DefaultVolumePluginDir = "/etc/kubernetes/volumeplugins"

// Bounds of settings.
const (
	maxValue = 255 // bytes
	maxNamed = 5   // problems in one error
)

// valid is each setting with the values that it takes.
var valid = []struct{ key, value string }{
	{EnableTraining, "True|False"},
	{LogAnalyticsWS, "True|False"},
	{InstallNvidiaDevicePlugin, "True|False"},
	{InstallBlobfuseSysctl, "True|False"},
	{InstallBlobfuseFlexvol, "True|False"},
	{VolumePluginDir, "/PATH"},
	{ImageMirror, "HOST[:PORT][/PATH]"},
	{NodeSelector + "KEY", "VALUE"},
}

// Valid lists the settings for people.
func Valid() string {
	words := make([]string, len(valid))
	for i, s := range valid {
		words[i] = s.key + "=" + s.value
	}
	return strings.Join(words, ", ")
}

// Parse reads settings as they are typed, KEY=VALUE each.
func Parse(pairs []string) (map[string]string, error) {
	given := map[string]string{}
	var problems []error
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		switch _, twice := given[key]; {
		case !ok:
			problems = append(problems, fmt.Errorf("%q is not KEY=VALUE", protocol.Cut(pair, 80)))
			continue
		case twice:
			problems = append(problems, fmt.Errorf("%s is given twice", protocol.Cut(key, 80)))
		}
		given[key] = value
	}
	checked, err := check(given)
	return checked, list(append(problems, err...))
}

// Check returns settings in the form in which they are kept, with switches that
// are True or False.
func Check(given map[string]string) (map[string]string, error) {
	checked, problems := check(given)
	return checked, list(problems)
}

func check(given map[string]string) (checked map[string]string, problems []error) {
	checked = map[string]string{}
	labels := 0
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, err := checkOne(key, given[key])
		if err != nil {
			problems = append(problems, err)
		}
		if strings.HasPrefix(key, NodeSelector) {
			labels++
		}
		checked[key] = value
	}
	if labels > protocol.MaxSelectors {
		problems = append(problems, fmt.Errorf("%d labels in %sKEY, at most %d are allowed", labels, NodeSelector, protocol.MaxSelectors))
	}
	return checked, problems
}

// mirrorRE is a registry with a path below it, as images name it.
var mirrorRE = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

// pathRE leaves out what would have to be quoted somewhere.
var pathRE = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func checkOne(key, value string) (string, error) {
	bad := func(want string) error {
		return fmt.Errorf("%s: %q is not %s", protocol.Cut(key, 80), protocol.Cut(value, 80), want)
	}
	switch key {
	case EnableTraining, LogAnalyticsWS, InstallNvidiaDevicePlugin, InstallBlobfuseSysctl, InstallBlobfuseFlexvol:
		switch strings.ToLower(value) {
		case "true":
			return True, nil
		case "false":
			return False, nil
		}
		return value, bad("True or False")
	case VolumePluginDir:
		if len(value) > maxValue || !pathRE.MatchString(value) || path.Clean(value) != value || value == "/" {
			return value, bad("a folder on the nodes, such as " + DefaultVolumePluginDir)
		}
		return value, nil
	case ImageMirror:
		if len(value) > maxValue || !mirrorRE.MatchString(value) {
			return value, bad("a registry, or a path in one, such as registry.example.com/mirror")
		}
		return value, nil
	}
	if label, ok := strings.CutPrefix(key, NodeSelector); ok {
		if err := protocol.CheckNodeLabel(label, value); err != nil {
			return value, fmt.Errorf("%sKEY: %w", NodeSelector, err)
		}
		return value, nil
	}
	for _, s := range valid {
		if strings.EqualFold(s.key, key) {
			return value, fmt.Errorf("%s is written %s", protocol.Cut(key, 80), s.key)
		}
	}
	return value, fmt.Errorf("there is no setting %q", protocol.Cut(key, 80))
}

// list joins problems, and says what there is.
func list(problems []error) error {
	more := len(problems) - maxNamed
	if len(problems) == 0 {
		return nil
	}
	if more > 0 {
		problems = append(problems[:maxNamed:maxNamed], fmt.Errorf("and %d more", more))
	}
	words := make([]string, len(problems))
	for i, p := range problems {
		words[i] = p.Error()
	}
	return errors.New(strings.Join(words, "; ") + "; valid settings are " + Valid())
}

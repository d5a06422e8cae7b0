package extension

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Resolve returns all settings that hold, of those that were given and checked.
// The plugin for NVIDIA's devices is there unless it is switched off, and
// blobfuse with training.
func Resolve(given map[string]string) map[string]string {
	all := map[string]string{
		EnableTraining: False, LogAnalyticsWS: False, InstallNvidiaDevicePlugin: True,
		VolumePluginDir: DefaultVolumePluginDir,
	}
	maps.Copy(all, given)
	for _, key := range []string{InstallBlobfuseSysctl, InstallBlobfuseFlexvol} {
		if _, ok := given[key]; !ok {
			all[key] = all[EnableTraining]
		}
	}
	return all
}

// Differ says in which settings what is differs from what is wanted; empty for
// in none.
func Differ(is, want map[string]string) string {
	keys := maps.Clone(is)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, want)
	var words []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		now, has := is[key]
		next, wanted := want[key]
		switch {
		case now == next && has == wanted:
		case !wanted:
			words = append(words, fmt.Sprintf("%s is %s and is to go", key, now))
		case !has:
			words = append(words, fmt.Sprintf("%s is not %s yet", key, next))
		default:
			words = append(words, fmt.Sprintf("%s is %s and not %s yet", key, now, next))
		}
	}
	return strings.Join(words, ", ")
}

// Labels are those of a node selector among the settings.
func Labels(settings map[string]string) map[string]string {
	labels := map[string]string{}
	for key, value := range settings {
		if label, ok := strings.CutPrefix(key, NodeSelector); ok {
			labels[label] = value
		}
	}
	return labels
}

// ApplyCommand is what an admin of the cluster runs to have the extension as
// the relay wants it.
func ApplyCommand(name, cluster string) string {
	return fmt.Sprintf("trainrelay k8s-extension update --name %s --cluster-name %s --apply", name, cluster)
}

package cluster_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// machine is what a cluster may change on a machine, and must change back.
type machine struct {
	Mounts, Links, Namespaces, Cgroups, Folders []string
	Sysctls                                     map[string]string
}

// volatile are the settings that change by themselves.
var volatile = regexp.MustCompile(`^(kernel/(random/|ns_last_pid|pty/nr|perf_event_max_sample_rate|perf_cpu_time_max_percent|sched_domain)|` +
	`vm/(compact_memory|drop_caches|stat_refresh)|net/netfilter/nf_conntrack_count)`)

func machineState(t *testing.T) machine {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	m := machine{Mounts: slices.Collect(strings.Lines(string(mounts))), Sysctls: map[string]string{}}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		m.Links = append(m.Links, link.Attrs().Name)
	}
	m.Namespaces = folder(t, "/run/netns")
	for _, path := range []string{
		"/", "/etc", "/etc/cni", "/opt", "/run", "/usr/libexec", "/usr/libexec/kubernetes",
		"/var/lib", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/containerd", "/var/log", "/var/run",
	} {
		m.Folders = append(m.Folders, folder(t, path)...)
	}
	// Those of the machine's other services come and go further down.
	for _, root := range folder(t, "/sys/fs/cgroup") {
		if entries, err := os.ReadDir(root); err == nil { // not a file of the root cgroup
			m.Cgroups = append(m.Cgroups, root)
			for _, entry := range entries {
				if entry.IsDir() {
					m.Cgroups = append(m.Cgroups, filepath.Join(root, entry.Name()))
				}
			}
		}
	}
	for _, part := range []string{"kernel", "vm", "net"} {
		walk(t, filepath.Join("/proc/sys", part), func(path string, d fs.DirEntry) {
			name := strings.TrimPrefix(path, "/proc/sys/")
			if d.IsDir() || volatile.MatchString(name) {
				return
			}
			if value, err := os.ReadFile(path); err == nil { // some cannot be read
				m.Sysctls[name] = string(value)
			}
		})
	}
	return m
}

// folder lists a folder that may not be there.
func folder(t *testing.T, path string) []string {
	t.Helper()
	files, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Join(path, file.Name()))
	}
	return names
}

func walk(t *testing.T, root string, visit func(string, fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			visit(path, d)
		}
		return nil // what comes and goes meanwhile is not ours
	})
	if err != nil {
		t.Fatal(err)
	}
}

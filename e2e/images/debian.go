package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// debian is where this machine gets its Debian packages from.
type debian struct {
	suite   string   // such as bookworm
	sources string   // lines of a sources.list
	options []string // apt's settings for getting there, such as a proxy
}

// findDebian asks apt, so that a mirror or a proxy set there is used here too.
func findDebian(ctx context.Context) (debian, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return debian{}, err
	}
	suite := codename(string(release))
	if suite == "" {
		return debian{}, errors.New("/etc/os-release names no Debian release (VERSION_CODENAME): the Python image is made on Debian only")
	}
	targets, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		return debian{}, fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	d := debian{suite: suite, sources: sourcesOf(string(targets), suite)}
	if d.sources == "" {
		return debian{}, fmt.Errorf("apt knows no mirror of Debian %s: run apt-get update first", suite)
	}
	settings, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%f \"%v\";%n").Output()
	if err != nil {
		return debian{}, fmt.Errorf("ask apt for its settings: %w", err)
	}
	for line := range strings.Lines(string(settings)) {
		if strings.HasPrefix(line, "Acquire::http::") || strings.HasPrefix(line, "Acquire::https::") {
			d.options = append(d.options, strings.TrimSpace(line))
		}
	}
	return d, nil
}

var codenameLine = regexp.MustCompile(`(?m)^VERSION_CODENAME="?([a-z]+)"?$`)

func codename(release string) string {
	if match := codenameLine.FindStringSubmatch(release); match != nil {
		return match[1]
	}
	return ""
}

// sourcesOf picks the release itself, its updates and its security fixes from
// the lines "origin URI release component"; other vendors' are left out.
func sourcesOf(targets, suite string) string {
	var lines []string
	for target := range strings.Lines(targets) {
		fields := strings.Fields(target)
		if len(fields) != 4 || fields[0] != "Debian" {
			continue
		}
		uri, release, component := fields[1], fields[2], fields[3]
		if release == suite || strings.HasPrefix(release, suite+"-") {
			lines = append(lines, fmt.Sprintf("deb %s %s %s\n", uri, release, component))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "")
}

// run runs a command whose output is worth reading only when it fails.
func run(cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return fmt.Errorf("%s: %w; its last lines:\n%s", cmd.Args[0], err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return nil
}

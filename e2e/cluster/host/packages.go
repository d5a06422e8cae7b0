package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

const (
	policyFile = "/usr/sbin/policy-rc.d"
	policyText = "#!/bin/sh\n# trainrelay: packages that are being installed start no service; removed afterwards\nexit 101\n"
)

// EnsurePackages installs those of the Debian packages that are not installed,
// and says so. Services that come with them are neither started nor left to
// start at the next boot. Needs root when something is missing.
func EnsurePackages(ctx context.Context, log func(format string, args ...any), names ...string) error {
	var missing []string
	for _, name := range names {
		if !installed(ctx, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("the Debian packages %s are missing: apt-get install %s, or run this as root", list, list)
	}
	log("installing Debian packages: %s", list)
	allow, err := forbidServices()
	if err != nil {
		return err
	}
	err = install(ctx, log, missing)
	if err == nil {
		err = disableServices(ctx, missing)
	}
	return errors.Join(err, allow())
}

func installed(ctx context.Context, name string) bool {
	status, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", name).Output()
	return err == nil && strings.HasPrefix(string(status), "ii")
}

// install installs packages, after an update of apt's lists when they are
// missing or too old to be of use.
func install(ctx context.Context, log func(string, ...any), names []string) error {
	args := append([]string{"install", "--yes", "--no-install-recommends"}, names...)
	if apt(ctx, args...) == nil {
		return nil
	}
	log("bringing apt's package lists up to date")
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, args...)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(output.String()))
	}
	return nil
}

// forbidServices tells Debian's package scripts to start nothing until the
// function it returns is called. A machine with a policy of its own keeps it.
func forbidServices() (allow func() error, err error) {
	there, err := os.ReadFile(policyFile)
	if err == nil && string(there) != policyText {
		return func() error { return nil }, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.WriteFile(policyFile, []byte(policyText), 0o755); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(policyFile) }, nil
}

// disableServices keeps systemd, where there is one, from starting at the next
// boot what has come with the packages.
func disableServices(ctx context.Context, names []string) error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	for _, name := range names {
		unit := name + ".service"
		if exec.CommandContext(ctx, "systemctl", "--quiet", "is-enabled", unit).Run() != nil {
			continue // there is no such service, or it is off
		}
		if err := exec.CommandContext(ctx, "systemctl", "--quiet", "disable", unit).Run(); err != nil {
			return fmt.Errorf("disable %s: %w", unit, err)
		}
	}
	return nil
}

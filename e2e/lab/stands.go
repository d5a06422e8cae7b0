package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trainrelay/trainrelay/e2e/cluster"
)

// Stands reports whether a lab that was made earlier is there to be used.
func Stands(opts Options) bool {
	c, err := cluster.Open(filepath.Join(opts.Dir, "cluster"))
	if err != nil {
		return false
	}
	for _, name := range []string{"relay", "squid"} {
		if p := c.Host().Process(name); p == nil || !p.Alive() {
			return false
		}
	}
	return c.Component(cluster.APIServer).Alive()
}

// free says which other lab has the addresses that this one needs.
func free(opts Options) error {
	for _, name := range []string{"demo", "e2e"} {
		other := Options{Dir: filepath.Join(opts.Repo, ".lab", name)}
		if other.Dir != opts.Dir && Stands(other) {
			return fmt.Errorf("the lab in %s stands, and there is room for one: take it away first, with make demo-down", other.Dir)
		}
	}
	return nil
}

// Environment are the variables that point trainrelay and kubectl at a lab
// that stands.
func Environment(opts Options) []string {
	l := &Lab{Dir: opts.Dir}
	return []string{
		"TRAINRELAY_CONFIG=" + l.ClientConfig(),
		"KUBECONFIG=" + filepath.Join(opts.Dir, "cluster", "pki", "admin.kubeconfig"),
	}
}

// writePrograms puts kubectl and helm into the lab's bin folder: the program
// that has all of Kubernetes' commands in one is called otherwise.
func (l *Lab) writePrograms() error {
	if err := os.MkdirAll(l.path("bin"), 0o755); err != nil {
		return err
	}
	script := "#!/bin/sh\nexec '" + l.prog("k8s") + "' kubectl \"$@\"\n"
	return errors.Join(
		os.WriteFile(l.path("bin", "kubectl"), []byte(script), 0o755),
		os.Symlink(l.prog("helm"), l.path("bin", "helm")))
}

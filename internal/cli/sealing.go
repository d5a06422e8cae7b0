package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/protocol"
)

// secrets are values that leave this machine sealed only. They print as their
// names.
type secrets map[string][]byte

func (s secrets) String() string { return "secrets " + strings.Join(sortedKeys(s), ", ") }

// GoString likewise.
func (s secrets) GoString() string { return s.String() }

// readSecrets takes the values of --secret from where they are: the
// environment, or files.
func (a *app) readSecrets(args []string) (secrets, error) {
	values := make(secrets, len(args))
	for _, arg := range args {
		name, from, given := strings.Cut(arg, "=")
		file, isFile := strings.CutPrefix(from, "@")
		var value []byte
		var err error
		switch _, twice := values[name]; {
		case twice:
			return nil, usage{fmt.Errorf("--secret %s is given twice", oneLine(name)), "give it once"}
		case given && !isFile:
			// Not even to say what is wrong is the value repeated.
			return nil, usage{fmt.Errorf("--secret %s: a value on a command line can be read by others on this machine", oneLine(name)),
				fmt.Sprintf("put it into the environment and write --secret %s, or into a file and write --secret %s=@FILE", oneLine(name), oneLine(name))}
		case given:
			value, err = readSecretFile(file)
		case a.io.Getenv(name) == "":
			err = fmt.Errorf("the environment has no %s", name)
		default:
			value = []byte(a.io.Getenv(name))
		}
		if err == nil && (!utf8.Valid(value) || strings.ContainsRune(string(value), 0)) {
			err = errors.New("its value is no text")
		}
		if err != nil {
			return nil, usage{fmt.Errorf("--secret %s: %w", oneLine(name), err), "its value comes from the environment, or with --secret NAME=@FILE from a file"}
		}
		values[name] = value
	}
	return values, nil
}

// readSecretFile reads a value, without the newline at its end that editors
// leave.
func readSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, seal.MaxValue+3))
	if err != nil {
		return nil, err
	}
	value = []byte(strings.TrimSuffix(strings.TrimSuffix(string(value), "\n"), "\r"))
	switch {
	case len(value) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case len(value) > seal.MaxValue:
		return nil, fmt.Errorf("%s has more than %d bytes, which is the most of a secret", path, seal.MaxValue)
	}
	return value, nil
}

// sealing is what a job is to have sealed.
type sealing struct {
	variables map[string]string // names of secrets, by variable
	values    secrets
	pull      []byte // the docker configuration; nil for none
}

// seal puts the values into the job, closed for the cluster of its compute. All
// else of the job has to be set: a box is good for this job only.
func (s sealing) seal(ctx context.Context, relay *client.Client, job *protocol.Job) error {
	if len(s.variables) == 0 && s.pull == nil {
		return nil
	}
	compute, err := relay.Compute(ctx, job.Compute)
	if err != nil {
		return err
	}
	if compute.SealKey == "" {
		return hinted{fmt.Errorf("compute %s: its cluster %s has not joined yet, so there is no key to seal secrets to", compute.Name, compute.Cluster),
			fmt.Sprintf("`trainrelay cluster show -n %s` tells how far it is", compute.Cluster)}
	}
	// The digest counts which values there are, not what is in their boxes.
	if len(s.variables) > 0 {
		job.SecretEnv = make(map[string]protocol.Sealed, len(s.variables))
	}
	for variable := range s.variables {
		job.SecretEnv[variable] = protocol.Sealed{}
	}
	if s.pull != nil {
		job.PullSecret = new(protocol.Sealed)
	}
	digest := job.Digest()
	for variable, name := range s.variables {
		job.SecretEnv[variable], err = seal.Seal(compute.SealKey, seal.Purpose{Job: job.Name, Spec: digest, Use: seal.UseEnv(variable)}, s.values[name])
		if err != nil {
			return err
		}
	}
	if s.pull != nil {
		*job.PullSecret, err = seal.Seal(compute.SealKey, seal.Purpose{Job: job.Name, Spec: digest, Use: seal.UsePull}, s.pull)
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

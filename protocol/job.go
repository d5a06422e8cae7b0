package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Job is the immutable specification of a command job: what to run, checked
// and with every expression of the user's file resolved.
type Job struct {
	// Name identifies the job in the workspace for ever.
	Name        string            `json:"name"`
	DisplayName string            `json:"display_name,omitempty"`
	Experiment  string            `json:"experiment_name,omitempty"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`

	// Command is run by /bin/sh -c in the folder of the code.
	Command string `json:"command"`
	// Code is the digest ("sha256:" and 64 hex digits) of the snapshot that the
	// pod fetches before the command; empty for none.
	Code  string            `json:"code,omitempty"`
	Image string            `json:"image"`
	Env   map[string]string `json:"environment_variables,omitempty"`
	// SecretEnv are variables whose values only the cluster can read.
	SecretEnv map[string]Sealed `json:"secret_environment_variables,omitempty"`
	// PullSecret is a sealed docker configuration (config.json) with which the
	// image is pulled; nil for none.
	PullSecret *Sealed `json:"pull_secret,omitempty"`
	// Inputs are the literal inputs, already substituted in Command.
	Inputs map[string]string `json:"inputs,omitempty"`

	Compute string `json:"compute"`
	// InstanceType is one of the compute's; empty for its default.
	InstanceType string `json:"instance_type,omitempty"`
	Instances    int    `json:"instance_count"`
	// TimeoutSeconds bounds the running time; 0 for no bound.
	TimeoutSeconds int64 `json:"timeout_seconds,omitempty"`
	// ShmBytes is the size of /dev/shm, a part of the pod's memory; 0 for the
	// runtime's default.
	ShmBytes int64 `json:"shm_bytes,omitempty"`
	// Priority orders the queue, higher first; 0 is the default.
	Priority int `json:"priority,omitempty"`
}

var (
	nameRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	computeRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`)
	labelRE   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	envRE     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	digestRE  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// CheckName says what is wrong with the name of a job.
func CheckName(name string) error {
	if len(name) > MaxName || !nameRE.MatchString(name) {
		return fmt.Errorf("%q is not a job's name: 1 to %d letters, digits, - and _, starting with a letter or digit", Cut(name, 80), MaxName)
	}
	return nil
}

// CheckCompute says what is wrong with the name of a compute.
func CheckCompute(name string) error {
	if len(name) > MaxLabel || !computeRE.MatchString(name) {
		return fmt.Errorf("%q is not a compute's name: 1 to %d letters, digits, - and _, starting and ending with a letter or digit", Cut(name, 80), MaxLabel)
	}
	return nil
}

// CheckLabel says what is wrong with the name of a cluster or namespace; what
// names the kind of thing in the error.
func CheckLabel(what, name string) error {
	if len(name) > MaxLabel || !labelRE.MatchString(name) {
		return fmt.Errorf("%q is not a %s's name: 1 to %d lower-case letters, digits and -, starting and ending with a letter or digit", Cut(name, 80), what, MaxLabel)
	}
	return nil
}

// CheckDigest says what is wrong with the digest of a snapshot.
func CheckDigest(digest string) error {
	if !digestRE.MatchString(digest) {
		return fmt.Errorf("%q is not a digest: sha256: and 64 hexadecimal digits", Cut(digest, 80))
	}
	return nil
}

var imageIDRE = regexp.MustCompile(`^(sha256|sha384|sha512):`)

// ImageID reports whether an image is named by its id, which says nothing of
// where it comes from and means what a machine happens to have.
func ImageID(image string) bool { return imageIDRE.MatchString(image) }

// CheckImage says what is wrong with the reference of an image.
func CheckImage(image string) error {
	if image == "" || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("image: %q is not an image reference", Cut(image, 80))
	}
	if ImageID(image) {
		return fmt.Errorf("image: %q is the id of an image on some machine, not an image reference", Cut(image, 80))
	}
	return nil
}

// Validate returns every problem of the job, joined; each names its field.
func (j *Job) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if err := CheckName(j.Name); err != nil {
		bad("name", "%v", err)
	}
	if strings.TrimSpace(j.Command) == "" {
		bad("command", "is empty")
	}
	if err := CheckImage(j.Image); err != nil {
		errs = append(errs, err)
	}
	if j.Code != "" {
		if err := CheckDigest(j.Code); err != nil {
			bad("code", "%v", err)
		}
	}
	if err := CheckCompute(j.Compute); err != nil {
		bad("compute", "%v", err)
	}
	if j.InstanceType != "" {
		if err := CheckInstanceType(j.InstanceType); err != nil {
			bad("instance_type", "%v", err)
		}
	}
	if j.Instances < 1 || j.Instances > MaxInstances {
		bad("instance_count", "%d is not within 1 to %d", j.Instances, MaxInstances)
	}
	if j.TimeoutSeconds < 0 || j.TimeoutSeconds > int64(366*24*time.Hour/time.Second) {
		bad("timeout_seconds", "%d is not within 0 to a year", j.TimeoutSeconds)
	}
	for _, m := range []struct {
		field string
		n     int
		max   int
	}{{"environment_variables", len(j.Env), MaxEnv}, {"secret_environment_variables", len(j.SecretEnv), MaxSecrets}, {"inputs", len(j.Inputs), MaxInputs}, {"tags", len(j.Tags), MaxTags},
		{"properties", len(j.Properties), MaxTags}} {
		if m.n > m.max {
			bad(m.field, "%d entries, at most %d are allowed", m.n, m.max)
		}
	}
	if j.ShmBytes < 0 || j.ShmBytes > MaxShm {
		bad("shm_bytes", "%d is not within 0 to %d", j.ShmBytes, int64(MaxShm))
	}
	for k, v := range j.Env {
		if !envRE.MatchString(k) {
			bad("environment_variables", "%q is not the name of a variable", Cut(k, 80))
		}
		if strings.ContainsRune(v, 0) {
			bad("environment_variables", "the value of %s contains a NUL byte", k)
		}
	}
	for k, v := range j.SecretEnv {
		if !envRE.MatchString(k) {
			bad("secret_environment_variables", "%q is not the name of a variable", Cut(k, 80))
		}
		if _, twice := j.Env[k]; twice {
			bad("secret_environment_variables", "%s is among environment_variables, too", k)
		}
		if err := v.Validate(); err != nil {
			bad("secret_environment_variables", "%s: %v", Cut(k, 80), err)
		}
	}
	if j.PullSecret != nil {
		if err := j.PullSecret.Validate(); err != nil {
			bad("pull_secret", "%v", err)
		}
	}
	if strings.ContainsRune(j.Command, 0) {
		bad("command", "contains a NUL byte")
	}
	if len(errs) == 0 {
		if n := len(canonical(j)); n > MaxJobSpec {
			bad("job", "%d bytes as JSON, at most %d are allowed; put large values into files of the code", n, MaxJobSpec)
		}
	}
	return errors.Join(errs...)
}

// Digest identifies the specification: equal jobs have equal digests. Of a
// sealed value only its use counts: the same value is sealed differently each
// time.
func (j *Job) Digest() string {
	plain := *j
	if j.SecretEnv != nil {
		plain.SecretEnv = make(map[string]Sealed, len(j.SecretEnv))
		for name := range j.SecretEnv {
			plain.SecretEnv[name] = Sealed{}
		}
	}
	if j.PullSecret != nil {
		plain.PullSecret = new(Sealed)
	}
	sum := sha256.Sum256(canonical(&plain))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// canonical is the job's JSON; encoding/json sorts the keys of maps.
func canonical(j *Job) []byte {
	b, err := json.Marshal(j)
	if err != nil { // strings, numbers and maps of strings always marshal
		panic(err)
	}
	return b
}

// Cut shortens s to n bytes for a message; the mark of it takes three more.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

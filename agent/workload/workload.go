// Package workload turns an attempt of a job into what Kubernetes runs: an
// Indexed Job with one pod per instance, and the Secret with which its pods fetch
// their code. It is pure: the same start makes the same objects, and nothing
// here talks to a cluster.
//
// # What the objects promise
//
// The Job's name is a function of job and attempt ([Name]), so an attempt can
// have one Job at most in a namespace; annotations say in full whose it is
// ([Identify], [Identity.Same]). One pod is all that a rank ever gets in an
// attempt: the first failure, be it the command's or an eviction, fails the
// Job. Trying again means the next attempt, which the relay decides and counts,
// so nothing restarts without bound and the output of two tries never mixes.
//
// The Job has no deadline and no time to live of its own: running time is
// bounded by package cluster, which also lets finished Jobs go once their end
// is durable at the relay.
//
// # Security
//
// Pods get no service account token, no capabilities, no way to gain
// privileges, and the runtime's seccomp profile. They run as the user of their
// image. The attempt's token is mounted as a file into the container that
// fetches the code and is in no environment variable and on no command line.
//
// Sealed values stay sealed in the Job ([Sealed]); opened they are in Secrets
// only ([EnvSecret], [PullSecret]), which go with the Job.
package workload

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// Labels of everything that the agent makes.
const (
	LabelManagedBy = "trainrelay.dev/managed-by"
	LabelCompute   = "trainrelay.dev/compute"
	// LabelInstanceType is missing where the compute has no instance types.
	LabelInstanceType = "trainrelay.dev/instance-type"

	// ManagedBy is the value of LabelManagedBy.
	ManagedBy = "trainrelay-agent"
	// Selector selects what the agent made.
	Selector = LabelManagedBy + "=" + ManagedBy
)

// Names within a Job and its namespace.
const (
	// MainContainer runs the job's command.
	MainContainer = "main"
	// CodeContainer is the init container that fetches the code.
	CodeContainer = "code"
	// ServiceName is the headless Service of a compute namespace, which the chart
	// makes for all pods that Selector selects: rank R of an
	// attempt with several instances is reached as NAME-R.ServiceName.
	ServiceName = "trainrelay"
)

// Options are the same for all Jobs of a cluster.
type Options struct {
	// LaunchImage holds trainrelay-launch, which fetches code.
	LaunchImage string
	// GatewayURL is where pods reach the agent, without a slash at the end.
	GatewayURL string
	// ImagePullSecrets are Secrets of the compute namespace.
	ImagePullSecrets []string
}

// Validate says which options are missing.
func (o Options) Validate() error {
	var errs []error
	if o.LaunchImage == "" {
		errs = append(errs, errors.New("no launch image"))
	}
	if o.GatewayURL == "" {
		errs = append(errs, errors.New("no gateway URL"))
	}
	return errors.Join(errs...)
}

// base32 digits that a DNS label may hold.
var digits = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// Name is the name of an attempt's Job, and what those of its Secrets begin
// with. It leaves room for
// the index and the pod's suffix within 63 characters.
func Name(ref protocol.Ref) string {
	sum := sha256.Sum256([]byte(ref.Job))
	return fmt.Sprintf("tr-%s-%d", digits.EncodeToString(sum[:])[:12], ref.Attempt)
}

// literal keeps Kubernetes from expanding $(NAME) and $$ in text that is the
// user's own.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

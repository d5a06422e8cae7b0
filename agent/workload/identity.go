package workload

import (
	"encoding/json"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// Annotations of Jobs and, but for the last, of their pods.
const (
	AnnotationJob     = "trainrelay.dev/job"
	AnnotationAttempt = "trainrelay.dev/attempt"
	AnnotationDigest  = "trainrelay.dev/spec-digest"
	AnnotationTimeout = "trainrelay.dev/timeout-seconds"
	// AnnotationStopping is why the agent stops the Job, as the JSON of a
	// protocol.Reason: what a restarted agent goes on with.
	AnnotationStopping = "trainrelay.dev/stopping"
)

// Identity says whose a Job is.
type Identity struct {
	protocol.Ref
	Digest  string // of the job's specification
	Compute string
}

// Identify reads the identity of a Job or pod that the agent made. It refuses
// what only looks like one.
func Identify(meta metav1.Object) (Identity, error) {
	notes := meta.GetAnnotations()
	attempt, err := strconv.Atoi(notes[AnnotationAttempt])
	if err != nil {
		return Identity{}, fmt.Errorf("%s/%s: annotation %s is %q, not a number", meta.GetNamespace(), meta.GetName(), AnnotationAttempt, notes[AnnotationAttempt])
	}
	id := Identity{
		Ref:     protocol.Ref{Job: notes[AnnotationJob], Attempt: attempt},
		Digest:  notes[AnnotationDigest],
		Compute: meta.GetLabels()[LabelCompute],
	}
	if err := id.Ref.Validate(); err != nil {
		return Identity{}, fmt.Errorf("%s/%s: annotations: %w", meta.GetNamespace(), meta.GetName(), err)
	}
	return id, nil
}

// IdentifyJob is Identify for a Job, whose name has to fit its annotations.
func IdentifyJob(meta metav1.Object) (Identity, error) {
	id, err := Identify(meta)
	if err == nil && meta.GetName() != Name(id.Ref) {
		return Identity{}, fmt.Errorf("%s/%s: its annotations are those of %s", meta.GetNamespace(), meta.GetName(), Name(id.Ref))
	}
	return id, err
}

// Same says why a Job is not the one that start asks for; nil when it is.
func (id Identity) Same(start *protocol.Start) error {
	switch {
	case id.Ref != start.Ref():
		return fmt.Errorf("it belongs to attempt %s", id.Ref)
	case id.Digest != start.Job.Digest():
		return fmt.Errorf("it runs another specification of %s", id.Ref)
	}
	return nil
}

// TimeoutSeconds is the bound on a Job's running time; 0 for none.
func TimeoutSeconds(meta metav1.Object) int64 {
	n, err := strconv.ParseInt(meta.GetAnnotations()[AnnotationTimeout], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Stopping is why the agent stops a Job; nil where it does not.
func Stopping(meta metav1.Object) *protocol.Reason {
	note, ok := meta.GetAnnotations()[AnnotationStopping]
	if !ok {
		return nil
	}
	var reason protocol.Reason
	if err := json.Unmarshal([]byte(note), &reason); err != nil || reason.Code == "" {
		return &protocol.Reason{Code: protocol.Stopping, Message: "annotated as stopping"}
	}
	return &reason
}

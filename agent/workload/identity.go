package workload

import (
	"encoding/json"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// Annotations of Jobs and, but for the last three, of their pods.
const (
	AnnotationJob     = "trainrelay.dev/job"
	AnnotationAttempt = "trainrelay.dev/attempt"
	AnnotationDigest  = "trainrelay.dev/spec-digest"
	AnnotationTimeout = "trainrelay.dev/timeout-seconds"
	// AnnotationMark says, on the Job only, that the agent made it in its
	// namespace: nobody else can make the mark.
	AnnotationMark = "trainrelay.dev/mark"
	// AnnotationStopping is the JSON of a Stop.
	AnnotationStopping = "trainrelay.dev/stopping"
)

// Identity says whose a Job is.
type Identity struct {
	protocol.Ref
	Digest       string // of the job's specification
	Compute      string
	InstanceType string
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
		Ref:          protocol.Ref{Job: notes[AnnotationJob], Attempt: attempt},
		Digest:       notes[AnnotationDigest],
		Compute:      meta.GetLabels()[LabelCompute],
		InstanceType: meta.GetLabels()[LabelInstanceType],
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

// Stop is the end that the agent is bringing a Job to, kept on the Job itself
// so that a restarted agent goes on with it.
type Stop struct {
	State  protocol.State  `json:"state"`
	Reason protocol.Reason `json:"reason"`
	Retry  bool            `json:"retry,omitempty"`
}

// Stopping is how the agent stops a Job; nil where it does not.
func Stopping(meta metav1.Object) *Stop {
	var stop Stop
	if err := json.Unmarshal([]byte(meta.GetAnnotations()[AnnotationStopping]), &stop); err != nil || !stop.State.Terminal() {
		return nil
	}
	return &stop
}

// Annotation is the value of AnnotationStopping.
func (s *Stop) Annotation() string {
	note, err := json.Marshal(s)
	if err != nil { // strings always marshal
		panic(err)
	}
	return string(note)
}

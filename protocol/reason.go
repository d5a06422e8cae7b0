package protocol

import "fmt"

// Reason says why a job waits or how it ended, for people and for scripts.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Message string     `json:"message"`
}

func (r Reason) String() string {
	if r.Message == "" {
		return string(r.Code)
	}
	return fmt.Sprintf("%s: %s", r.Code, r.Message)
}

// ReasonCode is a stable word that scripts may match.
type ReasonCode string

const (
	// Waiting.
	WaitingForRoom    ReasonCode = "WaitingForRoom"    // the compute's room is taken
	WaitingForCluster ReasonCode = "WaitingForCluster" // the compute's cluster is not connected
	Unschedulable     ReasonCode = "Unschedulable"     // no node fits; the scheduler's words
	ImagePull         ReasonCode = "ImagePull"         // the image cannot be pulled (yet)
	ContainerConfig   ReasonCode = "ContainerConfig"   // the container cannot be created (yet)
	QuotaExceeded     ReasonCode = "QuotaExceeded"     // a ResourceQuota refuses the pods (yet)
	PodRefused        ReasonCode = "PodRefused"        // admission refuses the pods: Pod Security, webhooks
	Stopping          ReasonCode = "Stopping"          // pods are being stopped

	// Ends.
	ExitCode         ReasonCode = "ExitCode"         // the command's exit code was not zero
	OOMKilled        ReasonCode = "OOMKilled"        // the container exceeded its memory limit
	Timeout          ReasonCode = "Timeout"          // limits.timeout of running time was used up
	NamespaceMissing ReasonCode = "NamespaceMissing" // the compute's namespace does not exist
	NotPermitted     ReasonCode = "NotPermitted"     // the agent may not use the compute's namespace
	APIRefused       ReasonCode = "APIRefused"       // the API server refused the Job; its words
	PolicyRefused    ReasonCode = "PolicyRefused"    // the policy of the cluster's admin forbids it; names the rule
	CodeFetch        ReasonCode = "CodeFetch"        // the code could not be fetched in the pod
	JobDeleted       ReasonCode = "JobDeleted"       // somebody deleted the Kubernetes Job
	SecretUnreadable ReasonCode = "SecretUnreadable" // a sealed value cannot be opened; submit again
	NodeLost         ReasonCode = "NodeLost"         // the node stayed unreachable
	Disrupted        ReasonCode = "Disrupted"        // pods were evicted or preempted
	Undecodable      ReasonCode = "Undecodable"      // the agent could not use the start it was sent
	PodFailed        ReasonCode = "PodFailed"        // the Job failed for another reason; its words
	UserCanceled     ReasonCode = "UserCanceled"     // a user asked for it
	ComputeDeleted   ReasonCode = "ComputeDeleted"   // the compute no longer exists
	InstanceTypeGone ReasonCode = "InstanceTypeGone" // the compute has no such instance type, or one that Kubernetes cannot take
)

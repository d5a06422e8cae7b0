package v1

import (
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Compute is a compute target: a namespace of a cluster, and how jobs run there.
type Compute struct {
	Name       string `json:"name"`
	Type       string `json:"type" doc:"always kubernetes"`
	ResourceID string `json:"resource_id,omitempty" doc:"the id by which it was attached, if by one"`
	ComputeSettings
	CreationContext CreationContext `json:"creation_context"`
	SealKey         string          `json:"seal_key,omitempty" doc:"the curve key to which secrets for its cluster are sealed"`

	ProvisioningState  ProvisioningState   `json:"provisioning_state"`
	ProvisioningErrors []string            `json:"provisioning_errors,omitempty" doc:"why it is Failed, and what to do"`
	Warnings           []string            `json:"warnings,omitempty" doc:"what may keep jobs waiting"`
	Status             ComputeStatus       `json:"status"`
	Capacity           []InstanceTypeShown `json:"capacity,omitempty" doc:"what its cluster can take, by instance type, as its agent saw it last"`
	// Queued and Active count its unfinished jobs.
	Queued int `json:"queued_jobs"`
	Active int `json:"active_jobs"`
}

// ProvisioningState is how far a compute is attached.
type ProvisioningState string

const (
	Creating  ProvisioningState = "Creating"  // its agent has not looked at it yet
	Updating  ProvisioningState = "Updating"  // nor at what was changed
	Succeeded ProvisioningState = "Succeeded" // its agent found all in order
	Failed    ProvisioningState = "Failed"    // its agent did not
	Deleting  ProvisioningState = "Deleting"  // it goes once its jobs have ended
)

// Final reports whether the state stays until somebody changes something.
func (s ProvisioningState) Final() bool { return s == Succeeded || s == Failed }

// ComputeStatus is the status as get_status().serialize() of the Python SDK's
// KubernetesCompute has it.
type ComputeStatus struct {
	CreationTime      time.Time         `json:"creationTime"`
	ModifiedTime      time.Time         `json:"modifiedTime"`
	ProvisioningState ProvisioningState `json:"provisioningState"`
}

// InstanceTypeShown is an instance type of a compute and what its cluster can
// take of it.
type InstanceTypeShown struct {
	Name    string `json:"name"`
	Default bool   `json:"default,omitempty"`
	Origin  string `json:"origin" doc:"compute, cluster (an InstanceType of amlarc.azureml.com), or built-in"`
	Nodes   int    `json:"nodes" doc:"nodes that it may run on"`
	Largest int    `json:"largest" doc:"instances that would fit if the nodes were empty"`
	Fits    *int   `json:"fits_now,omitempty" doc:"instances that would fit now; missing where the agent may not see pods"`
}

// Where an instance type comes from.
const (
	OfCompute = "compute"
	OfCluster = "cluster"
	BuiltIn   = "built-in"
)

// ComputeSettings is the body of putting a compute. Cluster and namespace of
// an existing compute cannot change.
type ComputeSettings struct {
	Cluster     string `json:"cluster"`
	Namespace   string `json:"namespace" doc:"not azureml, which is the agent's own"`
	Description string `json:"description,omitempty"`
	protocol.ComputeSettings
}

// ComputeBody is what is put.
type ComputeBody struct {
	ResourceID string `json:"resource_id,omitempty" doc:"the id by which it is attached, if by one"`
	ComputeSettings
}

// ComputeList holds all computes, by name.
type ComputeList struct {
	Value []Compute `json:"value"`
}

// Inventory is what a cluster has, as its agent saw it last.
type Inventory struct {
	Time  time.Time `json:"time"`
	Nodes int       `json:"nodes"`
	Ready int       `json:"ready_nodes"`
	// Resources are those of all ready nodes, by the resource's name.
	Resources     []ResourceShown `json:"resources"`
	InstanceTypes []string        `json:"instance_types,omitempty" doc:"the cluster's own, of amlarc.azureml.com"`
	Proxy         string          `json:"proxy,omitempty" doc:"the way of its agent to the relay: direct, or the proxy"`
	RoundTrip     float64         `json:"round_trip_ms,omitempty" doc:"how long its last sync took to be answered"`
}

// ResourceShown is how much of a resource a cluster has.
type ResourceShown struct {
	Name        string `json:"name"`
	Allocatable string `json:"allocatable"`
	Free        string `json:"free,omitempty" doc:"missing where the agent may not see pods"`
}

// Package v1 is the HTTP API's data, version 1: what the relay serves under
// /v1 and what its clients read and write. Field names are those that scripts
// written for "az ml" expect of the same thing.
package v1

import (
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Job is a job as users see it: its specification and what became of it.
type Job struct {
	Name                 string            `json:"name"`
	Type                 string            `json:"type" doc:"always command"`
	DisplayName          string            `json:"display_name,omitempty"`
	ExperimentName       string            `json:"experiment_name,omitempty"`
	Description          string            `json:"description,omitempty"`
	Tags                 map[string]string `json:"tags,omitempty"`
	Command              string            `json:"command"`
	Code                 string            `json:"code,omitempty" doc:"digest of the code snapshot"`
	Environment          Environment       `json:"environment"`
	EnvironmentVariables map[string]string `json:"environment_variables,omitempty"`
	Inputs               map[string]string `json:"inputs,omitempty"`
	Compute              string            `json:"compute"`
	Resources            Resources         `json:"resources"`
	Limits               *Limits           `json:"limits,omitempty"`
	Priority             int               `json:"priority,omitempty"`

	Status          protocol.State   `json:"status"`
	Reason          *protocol.Reason `json:"reason,omitempty" doc:"why it waits or how it ended"`
	CreationContext CreationContext  `json:"creation_context"`
	StartTime       *time.Time       `json:"start_time,omitempty" doc:"when the command was first seen running"`
	EndTime         *time.Time       `json:"end_time,omitempty"`
	ExitCode        *int             `json:"exit_code,omitempty"`
	Cluster         string           `json:"cluster,omitempty" doc:"where the current attempt runs"`
	Node            string           `json:"node,omitempty"`
	Attempt         int              `json:"attempt,omitempty" doc:"the current attempt, from 1; 0 before the first"`
}

// Environment is where the command runs.
type Environment struct {
	Image string `json:"image"`
}

// Resources of a job.
type Resources struct {
	InstanceCount int `json:"instance_count"`
}

// Limits of a job.
type Limits struct {
	Timeout int64 `json:"timeout" doc:"seconds of running time"`
}

// CreationContext says who made a thing and when.
type CreationContext struct {
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
}

// JobList is a page of jobs, newest first.
type JobList struct {
	Value    []Job  `json:"value"`
	NextLink string `json:"next_link,omitempty" doc:"path and query of the next page"`
}

// Compute is a compute target: a namespace of a cluster.
type Compute struct {
	Name            string          `json:"name"`
	Type            string          `json:"type" doc:"always kubernetes"`
	Cluster         string          `json:"cluster"`
	Namespace       string          `json:"namespace"`
	Description     string          `json:"description,omitempty"`
	CreationContext CreationContext `json:"creation_context"`
	// Queued and Active count its unfinished jobs.
	Queued int `json:"queued_jobs"`
	Active int `json:"active_jobs"`
}

// ComputeSettings is the body of putting a compute. Cluster and namespace of
// an existing compute cannot change.
type ComputeSettings struct {
	Cluster     string `json:"cluster"`
	Namespace   string `json:"namespace" doc:"not azureml, which is the agent's own"`
	Description string `json:"description,omitempty"`
}

// ComputeList holds all computes, by name.
type ComputeList struct {
	Value []Compute `json:"value"`
}

// Cluster is a cluster whose agent may connect.
type Cluster struct {
	Name            string          `json:"name"`
	PublicKey       string          `json:"public_key" doc:"the nkey that its agent signs with"`
	CreationContext CreationContext `json:"creation_context"`
	// Connectivity is Connected, NotResponding after missed syncs, or
	// NeverConnected.
	Connectivity      string     `json:"connectivity_status"`
	LastSync          *time.Time `json:"last_connectivity_time,omitempty"`
	AgentVersion      string     `json:"agent_version,omitempty"`
	KubernetesVersion string     `json:"kubernetes_version,omitempty"`
	Leader            string     `json:"leader,omitempty"`
	Problems          []string   `json:"problems,omitempty"`
	UnknownJobs       int        `json:"unknown_jobs,omitempty" doc:"Jobs in the cluster that the relay has no record of; left alone"`
}

const (
	Connected      = "Connected"
	NotResponding  = "NotResponding"
	NeverConnected = "NeverConnected"
)

// ClusterList holds all clusters, by name.
type ClusterList struct {
	Value []Cluster `json:"value"`
}

// ClusterSettings is the body of adding a cluster.
type ClusterSettings struct {
	Name      string `json:"name"`
	PublicKey string `json:"public_key,omitempty" doc:"the user nkey (U…) that its agent will sign with; without it the relay makes a key and answers with its seed"`
}

// NewCluster is the answer to adding a cluster: its only sight of the seed.
type NewCluster struct {
	Cluster
	Seed string `json:"seed,omitempty" doc:"the agent's private nkey, where the relay made it; shown once, never stored by the relay"`
}

// Stream events of GET /v1/jobs/{name}/stream, a server-sent event stream:
// "status" whenever the state or its reason changes, "log" for a run of
// output, "gap" where output was lost, and "end" last, once the job has ended
// and its output is complete or no longer comes. A log event's id resumes the
// stream after it, with the header Last-Event-ID; it is opaque.
type (
	// StatusEvent is the data of "status" and of "end".
	StatusEvent struct {
		Status   protocol.State   `json:"status"`
		Reason   *protocol.Reason `json:"reason,omitempty"`
		Attempt  int              `json:"attempt,omitempty"`
		ExitCode *int             `json:"exit_code,omitempty"`
		// LogComplete says, in "end", whether all output was seen.
		LogComplete bool `json:"log_complete,omitempty"`
	}
	// LogEvent is the data of "log" and of "gap".
	LogEvent struct {
		Attempt int    `json:"attempt"`
		Rank    int    `json:"rank"`
		Text    string `json:"text"`
	}
)

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
	Properties           map[string]string `json:"properties,omitempty"`
	Command              string            `json:"command"`
	Code                 string            `json:"code,omitempty" doc:"digest of the code snapshot"`
	Environment          Environment       `json:"environment"`
	EnvironmentVariables map[string]string `json:"environment_variables,omitempty"`
	SecretVariables      []string          `json:"secret_environment_variables,omitempty" doc:"names of the variables whose values only the cluster can read"`
	RegistryCredentials  bool              `json:"has_registry_credentials,omitempty" doc:"whether the image is pulled with sealed credentials"`
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
	Warnings        []string         `json:"warnings,omitempty" doc:"of the answer to submitting it: what may keep it from running"`
}

// Environment is where the command runs.
type Environment struct {
	Image string `json:"image"`
}

// Resources of a job.
type Resources struct {
	InstanceCount int    `json:"instance_count"`
	InstanceType  string `json:"instance_type" doc:"one of the compute's; defaultInstanceType where it has none"`
	ShmBytes      int64  `json:"shm_bytes,omitempty" doc:"of /dev/shm; 0 for the runtime's default"`
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

// Cluster is a cluster whose agent may connect.
type Cluster struct {
	Name            string          `json:"name"`
	PublicKey       string          `json:"public_key,omitempty" doc:"the nkey that its agent signs with; empty before one joined"`
	SealKey         string          `json:"seal_key,omitempty" doc:"the curve key to which secrets for the cluster are sealed"`
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
	JoinTokenExpires  *time.Time `json:"join_token_expires,omitempty" doc:"of a join token that was not used yet"`
	// Check is the agent's last look at its own surroundings.
	Check *protocol.Check `json:"check,omitempty"`
	// Inventory is what the agent last saw of the cluster's nodes.
	Inventory *Inventory `json:"inventory,omitempty"`
	Extension string     `json:"extension,omitempty" doc:"the name of its extension; see k8s-extension show"`
	Incidents *Incidents `json:"incidents,omitempty" doc:"messages that the agent did not believe; the audit log has them as security.incident"`
}

// Incidents are messages that an agent refused to believe.
type Incidents struct {
	Count int               `json:"count"`
	Last  protocol.Incident `json:"last"`
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

// JoinToken is the answer to connecting a cluster: the only sight of the token.
type JoinToken struct {
	Cluster Cluster   `json:"cluster"`
	Token   string    `json:"token" doc:"lets the cluster's agent join, once; shown once, never stored by the relay"`
	Expires time.Time `json:"expires"`
}

// What becomes of the jobs of a cluster that is disconnected.
const (
	KeepJobs   = "keep"
	CancelJobs = "cancel"
)

// DisconnectSettings is the body of disconnecting a cluster.
type DisconnectSettings struct {
	Jobs string `json:"jobs" enum:"keep,cancel" doc:"cancel: end all unfinished jobs of its computes; keep: let those that run go on, and the others wait for a cluster of the same name"`
}

// Disconnection is what became of a cluster that was disconnected.
type Disconnection struct {
	Cluster      string `json:"cluster"`
	CanceledJobs int    `json:"canceled_jobs" doc:"jobs that no cluster had claimed and that are Canceled now"`
	LiveJobs     int    `json:"live_jobs" doc:"jobs that the cluster had claimed and whose end is not known"`
	Told         bool   `json:"told" doc:"whether the agent got all cancels before it was cut off"`
}

// Whoami tells an agent whose its key is.
type Whoami struct {
	Cluster string `json:"cluster"`
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

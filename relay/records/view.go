package records

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// link is the way to the cluster that has or will have a job; states that
// users see follow from it.
type link struct {
	cluster string
	gone    bool      // the cluster was disconnected
	up      bool      // the cluster is connected
	silent  bool      // it missed its syncs
	since   time.Time // its last sync; zero for none since the relay started
	problem string    // what keeps it from taking work; empty for nothing
}

// view is the job as users see it.
func view(rec *record, job protocol.Job, l link) v1.Job {
	v := v1.Job{
		Name: rec.Name, Type: "command",
		DisplayName: rec.DisplayName, ExperimentName: rec.Experiment,
		Description: job.Description, Tags: job.Tags, Properties: job.Properties,
		Command: job.Command, Code: job.Code,
		Environment:          v1.Environment{Image: job.Image},
		EnvironmentVariables: job.Env, Inputs: job.Inputs,
		SecretVariables: slices.Sorted(maps.Keys(job.SecretEnv)), RegistryCredentials: job.PullSecret != nil,
		Compute:         rec.Compute,
		Resources:       v1.Resources{InstanceCount: job.Instances, InstanceType: cmp.Or(rec.InstanceType, protocol.BuiltinInstanceType), ShmBytes: job.ShmBytes},
		Priority:        rec.Priority,
		CreationContext: v1.CreationContext{CreatedAt: rec.Created, CreatedBy: rec.CreatedBy},
		Attempt:         len(rec.Attempts),
	}
	if job.TimeoutSeconds > 0 {
		v.Limits = &v1.Limits{Timeout: job.TimeoutSeconds}
	}
	v.Status, v.Reason = visible(rec, l)
	if a := rec.last(); a != nil {
		addAttempt(&v, a)
	}
	if rec.Closed != nil {
		v.EndTime = &rec.Closed.At
	}
	return v
}

// addAttempt says of the job what is known of its current attempt.
func addAttempt(v *v1.Job, a *Attempt) {
	v.Cluster = a.Cluster
	if !a.Started.IsZero() {
		v.StartTime = &a.Started
	}
	if a.Latest != nil {
		v.Node = a.Latest.Node
	}
	if a.End != nil {
		v.ExitCode = a.End.ExitCode
		if a.End.Node != "" {
			v.Node = a.End.Node
		}
		if v.Status.Terminal() {
			v.EndTime = &a.End.Time
		}
	}
}

// visible is the state that users see, and why the job is in it.
func visible(rec *record, l link) (protocol.State, *protocol.Reason) {
	state, reason := rec.State()
	switch {
	case rec.claimable():
		return state, waiting(rec, l)
	case rec.live() != nil && l.gone:
		return protocol.NotResponding, protocol.NewReason(protocol.WaitingForCluster,
			"cluster %s was disconnected; before that the job was %s", l.cluster, state)
	case rec.live() != nil && l.silent && l.since.IsZero():
		return protocol.NotResponding, protocol.NewReason(protocol.WaitingForCluster,
			"cluster %s has not been heard of since the relay started; before that the job was %s", l.cluster, state)
	case rec.live() != nil && l.silent:
		return protocol.NotResponding, protocol.NewReason(protocol.WaitingForCluster,
			"cluster %s was last heard of at %s; then the job was %s", l.cluster, l.since.Format(time.RFC3339), state)
	case rec.live() != nil && rec.live().Latest == nil && reason == nil && l.problem != "":
		return state, takesNone(l) // its start is on its way, or waits to be granted again
	}
	return state, reason
}

// waiting says why a job waits for its claim.
func waiting(rec *record, l link) *protocol.Reason {
	again := ""
	if a := rec.last(); a != nil && a.End.Reason != nil {
		again = "; the attempt before ended with " + a.End.Reason.String()
	}
	if l.gone {
		return protocol.NewReason(protocol.WaitingForCluster, "cluster %s of compute %s was disconnected%s", l.cluster, rec.Compute, again)
	}
	if !l.up {
		return protocol.NewReason(protocol.WaitingForCluster, "cluster %s of compute %s is not connected%s", l.cluster, rec.Compute, again)
	}
	if l.problem != "" {
		return takesNone(l)
	}
	return protocol.NewReason(protocol.WaitingForRoom, "compute %s has no room for it yet%s", rec.Compute, again)
}

func takesNone(l link) *protocol.Reason {
	return protocol.NewReason(protocol.WaitingForCluster, "cluster %s takes no work now: %s", l.cluster, l.problem)
}

// view is the job as users see it now.
func (s *Store) view(rec *record, job protocol.Job) v1.Job {
	return view(rec, job, s.link(rec))
}

// link is the record's way to its cluster now. A relay that has just started
// has heard of no cluster; it gives them the time to come back.
func (s *Store) link(rec *record) link {
	l := link{}
	if a := rec.live(); a != nil {
		l.cluster = a.Cluster
	} else if compute, ok := s.setup.computes.get(rec.Compute); ok {
		l.cluster = compute.Cluster
	}
	_, is := s.setup.clusters.get(l.cluster)
	l.gone = !is
	now := s.opts.Now()
	seen := s.setup.presence(l.cluster)
	l.since = seen.at
	if len(seen.problems) > 0 {
		l.problem = seen.problems[0]
	}
	l.up = s.setup.connected(l.cluster, now)
	l.silent = !l.up && now.Sub(s.started) > protocol.PresenceTimeout
	return l
}

// viewOf is view with the specification read.
func (s *Store) viewOf(ctx context.Context, rec *record) (v1.Job, error) {
	job, err := s.spec(ctx, rec)
	if err != nil && !errors.Is(err, ErrSpecLost) {
		return v1.Job{}, err
	}
	return s.view(rec, job), nil
}

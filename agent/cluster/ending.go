package cluster

import (
	batchv1 "k8s.io/api/batch/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// vanished is the end of an attempt whose Job was there and is gone.
func vanished(last *batchv1.Job, cancel *protocol.Cancel, e evidence) verdict {
	stop := workload.Stopping(last)
	switch {
	case finished(last):
		return derive(e)
	case stop != nil:
		return ended(stop)
	case cancel != nil:
		return canceled(cancel)
	}
	return verdict{state: protocol.Failed, reason: protocol.NewReason(protocol.JobDeleted,
		"somebody deleted Job %s in namespace %s", last.Name, last.Namespace)}
}

// canceled is the end that a cancel asks for.
func canceled(c *protocol.Cancel) verdict {
	v := verdict{state: protocol.Canceled, reason: c.Reason}
	if v.reason == nil {
		v.reason = protocol.NewReason(protocol.UserCanceled, "canceled at the relay")
	}
	return v
}

// unresolved is the end of an attempt that was seen before and has no Job: what
// the relay last heard of it tells whether it was being stopped.
func unresolved(m *protocol.Missing) verdict {
	if l := m.Latest; l != nil && l.State == protocol.Finalizing && l.Reason != nil && l.Reason.Code == protocol.Timeout {
		return verdict{state: protocol.Failed, reason: l.Reason}
	}
	return verdict{state: protocol.Failed, reason: protocol.NewReason(protocol.JobDeleted,
		"somebody deleted Job %s while no agent watched", workload.Name(m.Ref))}
}

// canceling reports whether the Job is to be deleted, as a cancel asked.
func canceling(job *batchv1.Job) bool {
	stop := workload.Stopping(job)
	return stop != nil && stop.State == protocol.Canceled
}

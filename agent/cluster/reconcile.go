package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// pendingRetry is when to look again at what the views do not show yet.
const pendingRetry = 250 * time.Millisecond

// reconcile does what is missing for one attempt, and says when to look again
// where nothing else would bring it back; 0 for never.
func (s *session) reconcile(ctx context.Context, ref protocol.Ref) (again time.Duration, err error) {
	a, ok := s.snapshot(ref)
	if !ok {
		return 0, nil
	}
	if s.pending() != nil {
		return pendingRetry, nil // what the views lack would be taken for gone
	}
	job, wait, err := s.locate(ctx, ref, a)
	switch {
	case err != nil:
		return 0, err
	case job == nil:
		return 0, s.absent(ctx, ref, a)
	}
	again, err = s.present(ctx, ref, a, job)
	if errors.Is(err, errGone) { // the views do not know yet
		a.job = job
		if job, err = s.ask(ctx, ref, a.namespace); err == nil && job == nil {
			return 0, s.absent(ctx, ref, a)
		}
		return pendingRetry, err
	}
	return sooner(again, wait), err
}

// locate finds the attempt's Job in the views, or where it was created too
// short ago to be there, else asks the API server. Only a grant needs no
// asking: its create will tell.
func (s *session) locate(ctx context.Context, ref protocol.Ref, a attempt) (job *batchv1.Job, wait time.Duration, err error) {
	if job := s.job(ref); job != nil {
		s.note(ref, func(a *attempt) { a.job, a.live = job, time.Time{} })
		return job, 0, nil
	}
	if !a.live.IsZero() {
		if left := time.Until(a.live.Add(shownWithin)); left > 0 {
			return a.job, left, nil
		}
	}
	if a.ended || a.job == nil && a.cancel == nil && a.missing == nil {
		return nil, 0, nil
	}
	job, err = s.ask(ctx, ref, a.namespace)
	if err != nil || job == nil {
		return nil, 0, err
	}
	s.note(ref, func(a *attempt) { a.job, a.live = job, time.Now() })
	return job, shownWithin, nil
}

// ask asks the API server for the attempt's Job; nil where no namespace has
// it. Its compute's namespace counts too, when it was taken from the agent:
// what runs on there has not ended, though nobody follows it now.
func (s *session) ask(ctx context.Context, ref protocol.Ref, computes string) (*batchv1.Job, error) {
	namespaces := s.o.Namespaces
	if computes != "" && s.views[computes] == nil {
		namespaces = append(slices.Clip(namespaces), computes)
	}
	var unknown []error
	for _, namespace := range namespaces {
		job, err := s.o.Client.BatchV1().Jobs(namespace).Get(ctx, workload.Name(ref), metav1.GetOptions{})
		switch {
		case err == nil:
			if id, err := workload.IdentifyJob(job); err != nil || id.Ref != ref {
				continue
			}
			if s.views[namespace] != nil {
				return job, nil
			}
			unknown = append(unknown, fmt.Errorf("it is in namespace %s, which was taken from the agent; add it to the chart's computeNamespaces again, or delete the Job", namespace))
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err) && s.namespaceMissing(ctx, namespace):
		default:
			unknown = append(unknown, err)
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return nil, fmt.Errorf("look for Job %s: %w", workload.Name(ref), err)
	}
	return nil, nil
}

// absent deals with an attempt that has no Job.
func (s *session) absent(ctx context.Context, ref protocol.Ref, a attempt) error {
	switch {
	case a.ended:
		s.settle(ref, a)
	case a.cancel != nil && a.cancel.Ended:
		s.note(ref, func(a *attempt) { a.ended = true })
		s.settle(ref, a)
	case a.job != nil:
		s.end(ref, a, vanished(a.job, a.cancel, s.evidence(a.job)))
	case a.cancel != nil:
		s.end(ref, a, canceled(a.cancel))
	case a.missing != nil:
		s.end(ref, a, unresolved(a.missing))
	case a.start != nil:
		return s.create(ctx, ref, a)
	default:
		s.settle(ref, a)
	}
	return nil
}

// end observes the end of an attempt that has no Job (any more).
func (s *session) end(ref protocol.Ref, a attempt, v verdict) {
	s.o.Log.Info().Stringer("attempt", ref).Str("state", string(v.state)).Stringer("reason", v.reason).Msg("the attempt has ended")
	s.o.Observe(v.event(ref, time.Now())) // before it is not held any more
	s.note(ref, func(a *attempt) { a.ended = true })
	s.settle(ref, a)
}

// present deals with an attempt that has a Job.
func (s *session) present(ctx context.Context, ref protocol.Ref, a attempt, job *batchv1.Job) (again time.Duration, err error) {
	if !s.views[job.Namespace].synced() {
		return pendingRetry, nil // a namespace that the agent could not see until now
	}
	if a.start != nil {
		if err := adopt(job, &a.start.start); err != nil {
			s.end(ref, a, verdict{state: protocol.Failed, reason: protocol.NewReason(protocol.APIRefused, "%v", err)})
			return 0, nil
		}
	}
	closed, err := s.makeSecrets(ctx, ref, a, job)
	if err != nil {
		return 0, err
	}
	s.note(ref, func(now *attempt) { now.granted(a.start); now.resolved(a.missing) })

	over := finished(job)
	if over && job.Spec.TTLSecondsAfterFinished != nil && !a.resend && a.start == nil && a.missing == nil && a.cancel == nil {
		s.note(ref, func(a *attempt) { a.ended, a.folded = true, true })
		return 0, nil // the relay has its end
	}
	v := derive(s.evidence(job))
	if closed != nil {
		v.stop = closed
	}
	leftover := a.cancel != nil && a.cancel.Ended
	if a.cancel != nil && !leftover && !v.state.Terminal() && workload.Stopping(job) == nil {
		c := canceled(a.cancel)
		v.stop = &workload.Stop{State: c.state, Reason: *c.reason}
	}
	s.observe(ref, a, job, v)
	switch {
	case over:
		if a.folded || leftover {
			err = s.release(ctx, job)
		}
		if err == nil {
			s.note(ref, func(now *attempt) { now.canceled(a.cancel) }) // its true end was observed
		}
	case v.stop != nil && !leftover:
		err = s.stop(ctx, job, v.stop)
	case job.DeletionTimestamp == nil && (a.cancel != nil || canceling(job)):
		err = s.remove(ctx, job)
	}
	return v.again, err
}

// observe tells what an attempt with a Job has come to.
func (s *session) observe(ref protocol.Ref, a attempt, job *batchv1.Job, v verdict) {
	queued := !finished(job) && !scheduled(job, s.views[job.Namespace].podsOf(job))
	if a.queued && !queued {
		s.o.Changed()
	}
	wanted := !a.ended || a.resend || a.start != nil || a.missing != nil || a.cancel != nil
	if leftover := a.cancel != nil && a.cancel.Ended; wanted && !leftover {
		s.o.Observe(v.event(ref, time.Now()))
	}
	s.note(ref, func(a *attempt) {
		a.queued, a.resend = queued, false
		a.ended = a.ended || v.state.Terminal()
	})
}

func (s *session) evidence(job *batchv1.Job) evidence {
	v := s.views[job.Namespace]
	return evidence{job: job, pods: v.podsOf(job), refusals: v.refusalsOf(job), now: time.Now(), lostAfter: s.o.LostAfter}
}

// adopt says why a Job cannot be taken for the one that start asks for.
func adopt(job *batchv1.Job, start *protocol.Start) error {
	id, err := workload.IdentifyJob(job)
	if err == nil {
		err = id.Same(start)
	}
	if err != nil {
		return fmt.Errorf("the name of the attempt's Job is taken in namespace %s: %w; delete that Job, then submit again", job.Namespace, err)
	}
	return nil
}

package cluster

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// create creates the Job of a granted attempt, or adopts the one that an
// earlier create made.
func (s *session) create(ctx context.Context, ref protocol.Ref, a attempt) error {
	g := a.start
	if !time.Now().Before(g.deadline) {
		s.o.Log.Warn().Stringer("attempt", ref).Msg("the Job could not be created in time; the relay will grant it again")
		s.settle(ref, a)
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, g.deadline)
	defer cancel()
	namespace := g.compute.Namespace
	if reason, err := s.refused(ctx, g.compute); err != nil {
		return s.failed(ctx, ref, a, err)
	} else if reason != nil {
		s.end(ref, a, verdict{state: protocol.Failed, reason: reason})
		return nil
	}
	jobs := s.o.Client.BatchV1().Jobs(namespace)
	on := s.equipped(g.compute)
	want, err := workload.Job(&g.start, &on, s.o.Workload)
	if err != nil {
		return s.forbid(ctx, ref, a, protocol.NewReason(protocol.InstanceTypeGone, "%v", err))
	}
	want.Annotations[workload.AnnotationMark] = s.o.Mark(ref, namespace)
	refusal, err := s.o.Policy.Judge(want)
	if err != nil {
		s.o.Changed() // the relay is to hear of it before it grants more
		return err
	}
	if refusal != nil {
		return s.forbid(ctx, ref, a, protocol.NewReason(protocol.PolicyRefused, "%v", refusal))
	}
	if _, closed := s.unseal(want); closed != nil {
		return s.forbid(ctx, ref, a, unreadable(closed))
	}
	job, err := jobs.Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if job, err = jobs.Get(ctx, want.Name, metav1.GetOptions{}); err == nil {
			if err := adopt(job, &g.start); err != nil {
				s.end(ref, a, verdict{state: protocol.Failed, reason: protocol.NewReason(protocol.APIRefused, "%v", err)})
				return nil
			}
		}
	}
	if err != nil {
		return s.failed(ctx, ref, a, fmt.Errorf("create Job %s in namespace %s: %w", want.Name, namespace, err))
	}
	s.note(ref, func(a *attempt) { a.job, a.live = job, time.Now() })
	// Its first observation keeps the relay from granting it again, should
	// somebody delete the Job at once.
	a.job = job
	_, err = s.present(ctx, ref, a, job)
	return err
}

// forbid ends an attempt that is not to have a Job. One that was created while
// it was, as under another policy, goes on.
func (s *session) forbid(ctx context.Context, ref protocol.Ref, a attempt, reason *protocol.Reason) error {
	job, err := s.ask(ctx, ref, "")
	switch {
	case err != nil:
		return err
	case job != nil:
		s.note(ref, func(a *attempt) { a.job, a.live = job, time.Now() })
		a.job = job
		_, err = s.present(ctx, ref, a, job)
		return err
	}
	s.end(ref, a, verdict{state: protocol.Failed, reason: reason})
	return nil
}

// refused says why no Job of the compute may be created, or why that cannot be
// told yet.
func (s *session) refused(ctx context.Context, c protocol.Compute) (*protocol.Reason, error) {
	v := s.views[c.Namespace]
	switch {
	case v != nil && v.synced():
		return nil, nil
	case s.namespaceMissing(ctx, c.Namespace):
		return missingNamespace(c.Namespace), nil
	case v == nil:
		return protocol.NewReason(protocol.NotPermitted, "the agent is not set up for namespace %s of compute %s, only for %s; add it to the chart's computeNamespaces",
			c.Namespace, c.Name, strings.Join(s.o.Namespaces, ", ")), nil
	}
	return nil, cmp.Or(v.readable(ctx, s.o.Client), fmt.Errorf("namespace %s can be read only now; waiting for its watch", c.Namespace))
}

// failed ends the attempt where an error of the API server will not go away,
// else returns the error.
func (s *session) failed(ctx context.Context, ref protocol.Ref, a attempt, err error) error {
	namespace := a.start.compute.Namespace
	code := permanent(err)
	if code == "" {
		return err
	}
	if apierrors.IsNotFound(err) && !s.namespaceMissing(ctx, namespace) {
		return err // what else there was not may come: an API that is being registered, a webhook's Service
	}
	reason := protocol.NewReason(code, "%s", words(err))
	if code == protocol.NotPermitted {
		// An API server that starts knows no Roles for a moment: only what it
		// says after it called itself ready is believed.
		if !a.ready {
			ready := s.probe.ask(ctx) == nil
			s.note(ref, func(a *attempt) { a.ready = ready })
			return err
		}
		if s.namespaceMissing(ctx, namespace) {
			reason = missingNamespace(namespace)
		}
	}
	s.end(ref, a, verdict{state: protocol.Failed, reason: reason})
	return nil
}

func missingNamespace(name string) *protocol.Reason {
	return protocol.NewReason(protocol.NamespaceMissing, "namespace %s does not exist", name)
}

// namespaceMissing reports whether a namespace is known not to exist.
func (s *session) namespaceMissing(ctx context.Context, name string) bool {
	_, err := s.o.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	return apierrors.IsNotFound(err)
}

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	workers = 16
	// shownWithin is how long the watch may take to show a Job that the API
	// server said exists; then it is asked again.
	shownWithin = time.Minute
	// firstRetry and lastRetry are the delays of an attempt's failing work.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// session is one time of leading. What it knows beyond the views is in
// attempts, and all of it comes back after a restart.
type session struct {
	o     *Options
	views map[string]*view // by namespace
	probe *probe
	queue workqueue.TypedRateLimitingInterface[protocol.Ref]

	mu       sync.Mutex
	attempts map[protocol.Ref]*attempt
}

// attempt is what is wanted of an attempt and known of it.
type attempt struct {
	start   *grant
	cancel  *protocol.Cancel
	missing *protocol.Missing
	// namespace is that of the compute, as a cancel or a search told it; the
	// agent may not be set up for it any more.
	namespace string

	job     *batchv1.Job // as last seen; nil before
	live    time.Time    // when the API server showed job and the watch did not yet; else zero
	ready   bool         // the API server was, before the next try to create
	secrets bool         // they are known to exist
	ended   bool         // its end was observed
	folded  bool         // its end is durable at the relay
	resend  bool         // observe it again, whatever it is
	queued  bool         // its pods lack nodes
}

// grant is a start that may be acted on until its deadline.
type grant struct {
	start    protocol.Start
	compute  protocol.Compute
	deadline time.Time
}

func newSession(o *Options) *session {
	s := &session{
		o:     o,
		views: make(map[string]*view, len(o.Namespaces)),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[protocol.Ref](firstRetry, lastRetry)),
		attempts: make(map[protocol.Ref]*attempt),
	}
	s.probe = newProbe(o.Client, o.Changed)
	for _, namespace := range o.Namespaces {
		s.views[namespace] = newView(s, namespace)
	}
	return s
}

// work runs the session until ctx is done.
func (s *session) work(ctx context.Context) error {
	for _, v := range s.views {
		if err := v.watch(s); err != nil {
			return fmt.Errorf("cluster: watch namespace %s: %w", v.namespace, err)
		}
	}
	for _, v := range s.views {
		v.start(ctx)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.probe.run(ctx) })
	wg.Go(func() { s.awaitViews(ctx) })
	for range workers {
		wg.Go(func() {
			for s.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	s.queue.ShutDown()
	for _, v := range s.views {
		v.stop()
	}
	wg.Wait()
	return nil
}

// awaitViews tells when the views have caught up for the first time.
func (s *session) awaitViews(ctx context.Context) {
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(context.Context) (bool, error) {
		return s.pending() == nil, nil
	})
	if err == nil {
		s.o.Changed()
	}
}

// next works on one attempt; false once the queue is shut down.
func (s *session) next(ctx context.Context) bool {
	ref, shutdown := s.queue.Get()
	if shutdown {
		return false
	}
	defer s.queue.Done(ref)
	again, err := s.reconcile(ctx, ref)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.o.Log.Warn().Err(err).Stringer("attempt", ref).Msg("trying again")
		s.queue.AddRateLimited(ref)
	default:
		s.queue.Forget(ref)
		if again > 0 {
			s.queue.AddAfter(ref, again)
		}
	}
	return true
}

// synced says what keeps the caches from being in step; nil for nothing.
func (s *session) synced() error {
	if err := s.probe.problem(); err != nil {
		return fmt.Errorf("the Kubernetes API server does not answer: %w", err)
	}
	return s.pending()
}

// pending says which views have not caught up yet; nil for none.
func (s *session) pending() error {
	var errs []error
	for _, namespace := range s.o.Namespaces {
		errs = append(errs, s.views[namespace].pending())
	}
	return errors.Join(errs...)
}

// change notes something about an attempt and has it worked on.
func (s *session) change(ref protocol.Ref, change func(*attempt)) {
	s.mu.Lock()
	a := s.attempts[ref]
	if a == nil {
		a = new(attempt)
		s.attempts[ref] = a
	}
	change(a)
	s.mu.Unlock()
	s.queue.Add(ref)
}

func (s *session) known(ref protocol.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[ref] != nil
}

// snapshot returns what is wanted and known now; false for nothing.
func (s *session) snapshot(ref protocol.Ref) (attempt, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attempts[ref]; a != nil {
		return *a, true
	}
	return attempt{}, false
}

// note changes an attempt that is being worked on.
func (s *session) note(ref protocol.Ref, change func(*attempt)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attempts[ref]; a != nil {
		change(a)
	}
}

// settle notes that nothing is left to do for an attempt whose Job is gone,
// but for what was wished since the snapshot was taken. It is forgotten, as
// soon as the views do not show the Job any more.
func (s *session) settle(ref protocol.Ref, was attempt) {
	shown := s.job(ref) != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attempts[ref]
	if a == nil {
		return
	}
	a.granted(was.start)
	a.canceled(was.cancel)
	a.resolved(was.missing)
	if !shown && a.start == nil && a.cancel == nil && a.missing == nil {
		delete(s.attempts, ref)
	}
}

// granted takes a wish away that has been met, but not one that came since.
func (a *attempt) granted(met *grant) {
	if a.start == met {
		a.start = nil
	}
}

func (a *attempt) canceled(met *protocol.Cancel) {
	if a.cancel == met {
		a.cancel = nil
	}
}

func (a *attempt) resolved(met *protocol.Missing) {
	if a.missing == met {
		a.missing = nil
	}
}

func (s *session) resend() {
	s.mu.Lock()
	refs := slices.Collect(maps.Keys(s.attempts))
	for _, a := range s.attempts {
		a.resend = true
	}
	s.mu.Unlock()
	for _, ref := range refs {
		s.queue.Add(ref)
	}
}

// job looks an attempt's Job up in the views. One that somebody made in another
// namespace to look like it does not stand before it.
func (s *session) job(ref protocol.Ref) *batchv1.Job {
	name := workload.Name(ref)
	var alike *batchv1.Job
	for _, namespace := range s.o.Namespaces {
		if job := s.views[namespace].job(name); job != nil {
			if id, err := workload.IdentifyJob(job); err == nil && id.Ref == ref {
				if s.ours(job, ref) {
					return job
				}
				alike = cmp.Or(alike, job)
			}
		}
	}
	return alike
}

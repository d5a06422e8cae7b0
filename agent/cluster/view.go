package cluster

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/trainrelay/trainrelay/agent/workload"
)

// Indexes of a view.
const (
	byJob     = "job"     // pods and events, by the UID of their Job
	byCompute = "compute" // unfinished Jobs
)

// view is a watched copy of the agent's Jobs in a namespace, their pods, and
// the events that say why pods could not be created.
type view struct {
	namespace string
	factories []informers.SharedInformerFactory
	jobs      cache.SharedIndexInformer
	pods      cache.SharedIndexInformer
	events    cache.SharedIndexInformer

	mu       sync.Mutex
	handlers []cache.ResourceEventHandlerRegistration
	failed   error // what a watch failed with last
}

func newView(s *session, namespace string) *view {
	ours := informers.NewSharedInformerFactoryWithOptions(s.o.Client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = workload.Selector }))
	refusals := informers.NewSharedInformerFactoryWithOptions(s.o.Client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "involvedObject.kind=Job,reason=FailedCreate" }))
	return &view{
		namespace: namespace,
		factories: []informers.SharedInformerFactory{ours, refusals},
		jobs:      ours.Batch().V1().Jobs().Informer(),
		pods:      ours.Core().V1().Pods().Informer(),
		events:    refusals.Core().V1().Events().Informer(),
	}
}

// watch sets up what happens on changes.
func (v *view) watch(s *session) error {
	for _, w := range []struct {
		informer cache.SharedIndexInformer
		indexers cache.Indexers
		changed  func(obj any, gone bool)
	}{
		{v.jobs, cache.Indexers{byCompute: unfinishedByCompute}, func(obj any, gone bool) { s.jobChanged(obj.(*batchv1.Job), gone) }},
		{v.pods, cache.Indexers{byJob: podByJob}, func(obj any, _ bool) { s.podChanged(obj.(*corev1.Pod)) }},
		{v.events, cache.Indexers{byJob: eventByJob}, func(obj any, _ bool) { s.eventChanged(v, obj.(*corev1.Event)) }},
	} {
		if err := w.informer.AddIndexers(w.indexers); err != nil {
			return err
		}
		if err := w.informer.SetTransform(stripped); err != nil {
			return err
		}
		if err := w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			v.fail(err)
			s.probe.soon()
		}); err != nil {
			return err
		}
		handler, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { w.changed(obj, false) },
			UpdateFunc: func(_, obj any) { w.changed(obj, false) },
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				w.changed(obj, true)
			},
		})
		if err != nil {
			return err
		}
		v.handlers = append(v.handlers, handler)
	}
	return nil
}

func (v *view) start(ctx context.Context) {
	for _, f := range v.factories {
		f.StartWithContext(ctx)
	}
}

// readable asks the API server whether it lets the agent see all that a view
// is made of.
func (v *view) readable(ctx context.Context, client kubernetes.Interface) error {
	one := metav1.ListOptions{Limit: 1}
	_, jobs := client.BatchV1().Jobs(v.namespace).List(ctx, one)
	_, pods := client.CoreV1().Pods(v.namespace).List(ctx, one)
	_, events := client.CoreV1().Events(v.namespace).List(ctx, one)
	return cmp.Or(jobs, pods, events)
}

// stop waits until nothing of the view runs; its context has to be done.
func (v *view) stop() {
	for _, f := range v.factories {
		f.Shutdown()
	}
}

func (v *view) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = err
}

// synced reports whether the view has caught up, and so has all that is
// handled by it.
func (v *view) synced() bool {
	for _, h := range v.handlers {
		if !h.HasSynced() {
			return false
		}
	}
	return true
}

// pending says what the view waits for. A namespace that the agent may not
// see is not waited for: nothing of the agent's can be in it.
func (v *view) pending() error {
	if v.synced() {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.failed == nil:
		return fmt.Errorf("reading Jobs, pods and events of namespace %s", v.namespace)
	case apierrors.IsForbidden(v.failed) || apierrors.IsNotFound(v.failed):
		return nil
	}
	return fmt.Errorf("reading Jobs, pods and events of namespace %s: %w", v.namespace, v.failed)
}

func (v *view) job(name string) *batchv1.Job {
	obj, ok, err := v.jobs.GetStore().GetByKey(v.namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	return obj.(*batchv1.Job)
}

func (v *view) podsOf(job *batchv1.Job) []*corev1.Pod {
	return indexed[*corev1.Pod](v.pods, byJob, string(job.UID))
}

func (v *view) refusalsOf(job *batchv1.Job) []*corev1.Event {
	return indexed[*corev1.Event](v.events, byJob, string(job.UID))
}

// indexed lists what an index has under a value. The objects are shared.
func indexed[T any](informer cache.SharedIndexInformer, index, value string) []T {
	objs, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil { // the index does not exist: a fault of this package
		panic(err)
	}
	found := make([]T, 0, len(objs))
	for _, obj := range objs {
		found = append(found, obj.(T))
	}
	return found
}

func unfinishedByCompute(obj any) ([]string, error) {
	job := obj.(*batchv1.Job)
	id, err := workload.IdentifyJob(job)
	if err != nil || finished(job) {
		return nil, nil
	}
	return []string{id.Compute}, nil
}

func podByJob(obj any) ([]string, error) {
	if owner := metav1.GetControllerOf(obj.(*corev1.Pod)); owner != nil {
		return []string{string(owner.UID)}, nil
	}
	return nil, nil
}

func eventByJob(obj any) ([]string, error) {
	return []string{string(obj.(*corev1.Event).InvolvedObject.UID)}, nil
}

// stripped is what the cache keeps of an object.
func stripped(obj any) (any, error) {
	if object, ok := obj.(metav1.Object); ok {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// jobChanged takes in a Job that came, changed or went. One that only looks
// like the agent's is none of its business, nor is the going of one that is
// done with.
func (s *session) jobChanged(job *batchv1.Job, gone bool) {
	id, err := workload.IdentifyJob(job)
	switch {
	case err != nil:
		s.o.Log.Warn().Err(err).Msg("a Job with the agent's label is not the agent's; it is left alone")
	case !gone || s.known(id.Ref):
		s.change(id.Ref, func(a *attempt) { a.job = job })
	}
}

func (s *session) podChanged(pod *corev1.Pod) {
	if id, err := workload.Identify(pod); err == nil {
		s.queue.Add(id.Ref)
	}
}

func (s *session) eventChanged(v *view, event *corev1.Event) {
	if job := v.job(event.InvolvedObject.Name); job != nil {
		if id, err := workload.IdentifyJob(job); err == nil {
			s.queue.Add(id.Ref)
		}
	}
}

package apiserver

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

func cancelOf(ref protocol.Ref) protocol.Cancel {
	return protocol.Cancel{Ref: ref, Reason: protocol.NewReason(protocol.UserCanceled, "asked by ada")}
}

// TestCancelBeforeCreate: what never had a Job ends at once.
func TestCancelBeforeCreate(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := protocol.Ref{Job: "never", Attempt: 1}
	r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
	if e := r.await(ref, protocol.Canceled, protocol.UserCanceled); e.Reason.Message != "asked by ada" {
		t.Errorf("reason is %s", e.Reason)
	}
	r.oneEnd(ref)
}

// TestCancelRacesStart: whichever comes first, one end and no Job remain.
func TestCancelRacesStart(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	var refs []protocol.Ref
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		ref := r.grant(unstarted(name), namespace)
		if name > "d" {
			r.awaitAny(ref)
		}
		r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		r.await(ref, protocol.Canceled, protocol.UserCanceled)
		r.until("the Job to be gone", func() bool { return jobOf(t, namespace, ref) == nil })
		r.oneEnd(ref)
	}
}

// TestCancelRunning: the end is told when the pods are gone, not before.
func TestCancelRunning(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("running"), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Running, "")
	r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
	r.await(ref, protocol.Finalizing, protocol.UserCanceled)
	if len(r.ends(ref)) != 0 || !r.holds(ref) {
		t.Error("ended while its pod runs")
	}
	obey(t, pods[0])
	r.await(ref, protocol.Canceled, protocol.UserCanceled)
	r.oneEnd(ref)
	if jobOf(t, namespace, ref) != nil {
		t.Error("the Job is still there")
	}
}

// TestCancelTooLate: what has ended keeps its end.
func TestCancelTooLate(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("late"), namespace)
	pods := schedule(t, namespace, ref)
	exits(t, pods[0], 0)
	r.await(ref, protocol.Completed, "")
	r.stop()
	r = newRoom(t, []string{namespace})
	r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
	r.await(ref, protocol.Completed, "")
	for _, e := range r.ends(ref) {
		if e.State != protocol.Completed {
			t.Errorf("ended as %s", e.State)
		}
	}
	if jobOf(t, namespace, ref) == nil {
		t.Error("the finished Job was deleted")
	}
}

// TestLeftover: the Job of an attempt that has its end is deleted, and nothing
// is said of it.
func TestLeftover(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("leftover"), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Running, "")
	r.Cancel(t.Context(), protocol.Cancel{Ref: ref, Ended: true}, protocol.Compute{})
	obey(t, pods[0])
	r.until("not held any more", func() bool { return !r.holds(ref) })
	// The next attempt's observation comes behind whatever could still be said.
	next := unstarted("leftover")
	next.Attempt = 2
	r.awaitAny(r.grant(next, namespace))
	for _, e := range r.observed(ref) {
		if e.State == protocol.Finalizing || e.State.Terminal() {
			t.Errorf("it was told: %s", r.story())
		}
	}
	if jobOf(t, namespace, ref) != nil {
		t.Error("the Job is still there")
	}
}

// gate holds up what watches bring, while it is closed, and counts deletes.
type gate struct {
	deletes atomic.Int64

	mu   sync.Mutex
	open chan struct{}
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut()   { g.mu.Lock(); defer g.mu.Unlock(); g.open = make(chan struct{}) }
func (g *gate) reopen() { g.mu.Lock(); defer g.mu.Unlock(); close(g.open) }
func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) wrap(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return gated{g, next} })
}

type gated struct {
	*gate
	next http.RoundTripper
}

func (g gated) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if req.Method == http.MethodDelete {
		g.deletes.Add(1)
	}
	if err == nil && req.URL.Query().Get("watch") != "" {
		resp.Body = &gatedBody{g.gate, req.Context(), resp.Body}
	}
	return resp, err
}

type gatedBody struct {
	gate *gate
	ctx  context.Context
	io.ReadCloser
}

func (b *gatedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	select {
	case <-b.gate.opened():
	case <-b.ctx.Done():
	}
	return n, err
}

// TestDeleteOnlyThatJob: where the watch lags and the name has come to be
// somebody else's Job, that is neither stopped nor deleted (I2).
func TestDeleteOnlyThatJob(t *testing.T) {
	t.Run("cancel", func(t *testing.T) {
		lagging(t, func(r *room, _ *gate, ref protocol.Ref) {
			r.Cancel(t.Context(), cancelOf(ref), protocol.Compute{})
			r.awaitEnd(ref)
			r.oneEnd(ref)
		})
	})
	t.Run("leftover", func(t *testing.T) {
		lagging(t, func(r *room, g *gate, ref protocol.Ref) {
			r.Cancel(t.Context(), protocol.Cancel{Ref: ref, Ended: true}, protocol.Compute{})
			r.until("a delete to be tried", func() bool { return g.deletes.Load() > 0 })
			g.reopen()
			r.until("not held any more", func() bool { return !r.holds(ref) })
		})
	})
}

// lagging runs act where the watch still shows an attempt's Job and the name is
// another Job's, which has to survive it.
func lagging(t *testing.T, act func(*room, *gate, protocol.Ref)) {
	namespace := newNamespace(t, nil)
	g := newGate()
	r := newRoom(t, []string{namespace}, through(t, g.wrap))
	ref := r.grant(unstarted("replaced"), namespace)
	r.await(ref, protocol.Queued, protocol.Unschedulable)

	g.shut()
	jobs := site.Client().BatchV1().Jobs(namespace)
	background := metav1.DeletePropagationBackground
	if err := jobs.Delete(t.Context(), workload.Name(ref), metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Job to be gone", func(context.Context) (bool, error) { return jobOf(t, namespace, ref) == nil, nil })
	other, err := jobs.Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: workload.Name(ref)},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "other", Image: "other"}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	act(r, g, ref)
	if now := jobOf(t, namespace, ref); now == nil || now.UID != other.UID || now.DeletionTimestamp != nil || now.Annotations[workload.AnnotationStopping] != "" {
		t.Errorf("the other Job was touched: %+v", now)
	}
}

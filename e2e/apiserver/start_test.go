package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestLifeOfAnAttempt: from the grant to the end, with all that belongs to it.
func TestLifeOfAnAttempt(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	start := unstarted("life", func(j *protocol.Job) { j.Code, j.Instances = "sha256:"+strings.Repeat("0", 64), 2 })
	ref := r.grant(start, namespace)
	if !r.holds(ref) {
		t.Error("not held before it is created")
	}
	r.await(ref, protocol.Queued, "")
	if e := r.await(ref, protocol.Queued, protocol.Unschedulable); !strings.Contains(e.Reason.Message, "nodes are available") {
		t.Errorf("the scheduler's words are missing: %s", e.Reason)
	}

	job := jobOf(t, namespace, ref)
	secret, err := site.Client().CoreV1().Secrets(namespace).Get(t.Context(), job.Name, metav1.GetOptions{})
	if err != nil || len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].UID != job.UID || string(secret.Data["token"]) != "token of life/1" {
		t.Errorf("Secret %+v, %v", secret, err)
	}

	pods := schedule(t, namespace, ref)
	r.await(ref, protocol.Preparing, "")
	runs(t, pods[0])
	if e := r.await(ref, protocol.Running, ""); e.Node != node {
		t.Errorf("runs on %q", e.Node)
	}
	exits(t, pods[0], 0)
	exits(t, pods[1], 0)
	r.await(ref, protocol.Completed, "")
	r.until("not held any more", func() bool { return !r.holds(ref) })
	if !slices.Contains(r.Held(true), ref) {
		t.Error("a full sync does not list the finished Job")
	}

	if job := jobOf(t, namespace, ref); job.Spec.TTLSecondsAfterFinished != nil {
		t.Error("the Job may go before its end was folded")
	}
	r.Folded(ref)
	eventually(t, "time to live", func(context.Context) (bool, error) {
		ttl := jobOf(t, namespace, ref).Spec.TTLSecondsAfterFinished
		return ttl != nil && *ttl == int32(protocol.FinishedJobTTL.Seconds()), nil
	})
	r.oneEnd(ref)
}

func TestExitCode(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("exit"), namespace)
	pods := schedule(t, namespace, ref)
	exits(t, pods[0], 3)
	if e := r.await(ref, protocol.Failed, protocol.ExitCode); e.ExitCode == nil || *e.ExitCode != 3 || e.Retry {
		t.Errorf("end is %+v", e)
	}
}

// TestEvictionRetries: an eviction is no fault of the job.
func TestEvictionRetries(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	ref := r.grant(unstarted("evicted"), namespace)
	pods := schedule(t, namespace, ref)
	runs(t, pods[0])
	r.await(ref, protocol.Running, "")
	report(t, pods[0], corev1.PodStatus{Phase: corev1.PodFailed, Conditions: []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler", Message: "preempted", LastTransitionTime: metav1.Now(),
	}}})
	if e := r.await(ref, protocol.Failed, protocol.Disrupted); !e.Retry || !strings.Contains(e.Reason.Message, "PreemptionByScheduler") {
		t.Errorf("end is %+v, %s", e, e.Reason)
	}
}

// TestTwoLeaders: both create, and both have the same Job (I2).
func TestTwoLeaders(t *testing.T) {
	namespace := newNamespace(t, nil)
	created := countCreated(t, namespace)
	a, b := newRoom(t, []string{namespace}), newRoom(t, []string{namespace})
	const attempts = 25
	for i := range attempts {
		start := unstarted(fmt.Sprintf("twice-%d", i))
		a.grant(start, namespace)
		b.grant(start, namespace)
	}
	for _, r := range []*room{a, b} {
		for i := range attempts {
			r.awaitAny(protocol.Ref{Job: fmt.Sprintf("twice-%d", i), Attempt: 1})
		}
	}
	if n := len(created()); n != attempts {
		t.Errorf("%d Jobs were created for %d attempts", n, attempts)
	}
}

// countCreated watches a namespace and returns, when asked, the UIDs of all
// Jobs that ever were in it.
func countCreated(t *testing.T, namespace string) func() map[string]string {
	t.Helper()
	jobs := site.Client().BatchV1().Jobs(namespace)
	list, err := jobs.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := jobs.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Stop)
	created := make(map[string]string)
	return func() map[string]string {
		// A Job of the test's own marks how far the watch has to be read.
		mark, err := jobs.Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{GenerateName: "mark-"}, Spec: batchv1.JobSpec{
			Suspend: new(true), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{Name: "none", Image: "none"}}}},
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for event := range watch.ResultChan() {
			job, ok := event.Object.(*batchv1.Job)
			if !ok {
				t.Fatalf("the watch broke: %+v", event.Object)
			}
			if job.UID == mark.UID {
				return created
			}
			if job.Annotations[workload.AnnotationJob] != "" {
				created[string(job.UID)] = job.Name
			}
		}
		t.Fatal("the watch ended")
		return nil
	}
}

// plainJob is the Job of a start on a compute without settings.
func plainJob(start *protocol.Start, namespace string) *batchv1.Job {
	job, err := workload.Job(start, &protocol.Compute{Name: "onprem", Namespace: namespace}, workload.Options{})
	if err != nil {
		panic(err)
	}
	return job
}

// TestForeignJob: a Job that has the name and is not the attempt's is left
// alone, and the attempt says so.
func TestForeignJob(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace})
	start := unstarted("taken")
	for name, spoil := range map[string]func(*batchv1.Job){
		"nobody's":             func(j *batchv1.Job) { j.Annotations, j.Labels = nil, nil },
		"of another spec":      func(j *batchv1.Job) { j.Annotations[workload.AnnotationDigest] = "sha256:0" },
		"of another spec, hid": func(j *batchv1.Job) { j.Annotations[workload.AnnotationDigest], j.Labels = "sha256:0", nil },
	} {
		t.Run(name, func(t *testing.T) {
			start.Attempt++
			foreign := plainJob(&start, namespace)
			spoil(foreign)
			foreign, err := site.Client().BatchV1().Jobs(namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ref := r.grant(start, namespace)
			if e := r.await(ref, protocol.Failed, protocol.APIRefused); !strings.Contains(e.Reason.Message, "is taken") {
				t.Errorf("reason is %s", e.Reason)
			}
			if now := jobOf(t, namespace, ref); now == nil || now.UID != foreign.UID || now.DeletionTimestamp != nil {
				t.Error("the foreign Job was touched")
			}
		})
	}
}

// TestRoom: what was granted takes room at once, and gives it back when it has
// its node.
func TestRoom(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace}, func(o *cluster.Options) { o.MaxUnscheduled, o.MaxLive = 3, 4 })
	computes := []protocol.Compute{{Name: "onprem", Namespace: namespace}, {Name: "other", Namespace: namespace}, {Name: "away", Namespace: "nowhere"}}
	want := func(free int) {
		t.Helper()
		r.until(fmt.Sprintf("room for %d", free), func() bool {
			return cmp.Equal([]protocol.Room{{Compute: "onprem", Free: free}, {Compute: "other", Free: 3}, {Compute: "away", Free: 3}}, r.Room(computes))
		})
	}
	want(3)
	one, two := r.grant(unstarted("one"), namespace), r.grant(unstarted("two"), namespace)
	if got := r.Room(computes)[0].Free; got != 1 {
		t.Errorf("room for %d right after two grants, want 1", got)
	}
	r.await(one, protocol.Queued, protocol.Unschedulable)
	r.await(two, protocol.Queued, protocol.Unschedulable)
	want(1)
	pods := schedule(t, namespace, one)
	want(2)
	schedule(t, namespace, two)
	want(2) // of the live ones
	exits(t, pods[0], 0)
	want(3)
}

// TestLiteralText: Kubernetes expands $(NAME) and $$ in commands and
// environments, but what users write is theirs.
func TestLiteralText(t *testing.T) {
	const text = `echo $$ $(HOME) $$$(X) ${Y} $`
	job := plainJob(&protocol.Start{Attempt: 1, Job: protocol.Job{Name: "a", Command: text, Env: map[string]string{"V": text}}}, "train")
	main := job.Spec.Template.Spec.Containers[0]
	known := func(name string) string { return "the value of " + name }
	if got := expansion.Expand(main.Command[2], known); got != text {
		t.Errorf("the command becomes %q", got)
	}
	for _, e := range main.Env {
		if e.Name == "V" && expansion.Expand(e.Value, known) != text {
			t.Errorf("the variable becomes %q", expansion.Expand(e.Value, known))
		}
	}
}

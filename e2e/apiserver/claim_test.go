package apiserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestClaimRaces: the real relay, the real agent, the real API server, and a
// test that plays the kubelet while everything between them fails. Of every
// attempt there was one Job at most, and of every job one end, which is the
// one that its pods came to (I1).
func TestClaimRaces(t *testing.T) {
	for _, tc := range []struct {
		name  string
		homes int // namespaces with a Lease: how many agents lead at a time
		jobs  int
		upset func(s *scene)
	}{
		{"cancel races", 1, 40, func(s *scene) { s.cancelSome() }},
		{"lost answers", 1, 40, func(s *scene) { s.loseAnswers(8) }},
		{"relay restarts", 1, 40, func(s *scene) { s.cloud.restart() }},
		{"agent restarts", 1, 40, func(s *scene) { s.agents[0].restart(); s.agents[1].restart(); s.agents[0].restart() }},
		{"two leaders", 2, 40, func(s *scene) { s.cancelSome() }},
		{"everything", 1, 60, func(s *scene) {
			s.cancelSome()
			s.loseAnswers(3)
			s.agents[0].restart()
			s.cloud.restart()
			s.loseAnswers(3)
			s.agents[1].restart()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { race(t, tc.homes, tc.jobs, tc.upset) })
	}
}

// scene is all that takes part in a race.
type scene struct {
	t        *testing.T
	cloud    *cloud
	wires    []*wire
	agents   []*station
	names    []string
	canceled map[string]bool
}

func race(t *testing.T, homes, jobs int, upset func(*scene)) {
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	}
	namespace := newNamespace(t, nil)
	created := countCreated(t, namespace)
	s := &scene{t: t, cloud: newCloud(t, log), canceled: make(map[string]bool)}
	joined := s.cloud.join(namespace)
	home := newHome(t)
	for i := range 2 {
		if i < homes && i > 0 {
			home = newHome(t)
		}
		w := newWire(t, s.cloud.addr)
		s.wires = append(s.wires, w)
		s.agents = append(s.agents, newStation(t, s.cloud, w, joined, fmt.Sprintf("agent-%d", i), home, namespace))
	}
	stopKubelet := playKubelet(t, namespace)
	defer stopKubelet()

	for i := range jobs {
		job := protocol.Job{Name: fmt.Sprintf("race-%d", i), Command: "true", Image: "sklearn", Compute: "onprem", Instances: 1}
		if _, _, err := s.cloud.Submit(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		s.names = append(s.names, job.Name)
	}
	upset(s)
	ends := make(map[string]v1.Job)
	for _, name := range s.names {
		ends[name] = s.awaitEnd(name)
	}

	for name, job := range ends {
		switch {
		case job.Status == protocol.Completed:
		case job.Status == protocol.Canceled && s.canceled[name]:
		default:
			t.Errorf("%s ended as %s, %v", name, job.Status, job.Reason)
		}
	}
	perName := make(map[string]int)
	for _, name := range created() {
		if perName[name]++; perName[name] == 2 {
			t.Errorf("Job %s was created twice", name)
		}
	}
	// An end stands, whatever the next leader derives anew.
	s.cloud.restart()
	s.agents[0].restart()
	for name, was := range ends {
		if now := s.awaitEnd(name); now.Status != was.Status || now.Attempt != was.Attempt {
			t.Errorf("%s ended as %s of attempt %d, and then as %s of %d", name, was.Status, was.Attempt, now.Status, now.Attempt)
		}
	}
}

// cancelSome asks for the end of every third job, some of which run by then.
func (s *scene) cancelSome() {
	s.t.Helper()
	for i, name := range s.names {
		if i%3 == 0 {
			s.canceled[name] = true
			if _, err := s.cloud.Cancel(s.t.Context(), name); err != nil {
				s.t.Error(err)
			}
		}
	}
}

// loseAnswers lets requests through and their answers not, again and again.
func (s *scene) loseAnswers(times int) {
	for range times {
		for _, w := range s.wires {
			w.mute()
		}
		pause(s.t.Context(), 20*time.Millisecond+rand.N(100*time.Millisecond))
		for _, w := range s.wires {
			w.cut()
		}
		pause(s.t.Context(), 300*time.Millisecond+rand.N(700*time.Millisecond))
	}
}

// pause lets the race run for a while before the next upset; nothing depends on
// how far it got.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *scene) awaitEnd(name string) v1.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*patience)
	defer cancel()
	var last v1.Job
	for ctx.Err() == nil {
		if job, err := s.cloud.Job(ctx, name); err == nil {
			if last = job; job.Status.Terminal() {
				return job
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
	s.t.Fatalf("%s has not ended; it is %s, %v, attempt %d", name, last.Status, last.Reason, last.Attempt)
	return last
}

// playKubelet runs every pod of a namespace to its end, until stopped.
func playKubelet(t *testing.T, namespace string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	pods := site.Client().CoreV1().Pods(namespace)
	step := func(pod corev1.Pod) error {
		switch {
		case pod.DeletionTimestamp != nil:
			return pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		case pod.Spec.NodeName == "":
			return pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{})
		case pod.Status.Phase == corev1.PodPending:
			return patchStatus(ctx, pod, started())
		case pod.Status.Phase == corev1.PodRunning:
			return patchStatus(ctx, pod, exited(0))
		}
		return nil
	}
	running.Go(func() {
		for ctx.Err() == nil {
			list, err := pods.List(ctx, metav1.ListOptions{})
			if err == nil {
				for _, pod := range list.Items {
					if err := step(pod); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
						t.Errorf("kubelet: %v", err)
					}
				}
			}
			pause(ctx, 50*time.Millisecond)
		}
	})
	return func() { cancel(); running.Wait() }
}

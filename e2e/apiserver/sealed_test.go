package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nkeys"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/protocol"
)

// sealKey is a cluster's key.
type sealKey struct {
	seed   []byte
	public string
}

func newSealKey(t *testing.T) (k sealKey) {
	t.Helper()
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	if k.seed, err = pair.Seed(); err != nil {
		t.Fatal(err)
	}
	if k.public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return k
}

// opens lets a room open what was sealed to the keys.
func opens(keys ...sealKey) func(*cluster.Options) {
	return func(o *cluster.Options) {
		o.Open = func(p seal.Purpose, s *protocol.Sealed) ([]byte, error) {
			var seeds [][]byte
			for _, k := range keys {
				seeds = append(seeds, k.seed)
			}
			return seal.Open(seeds, p, s)
		}
	}
}

const (
	hush  = "hush-hush"
	login = `{"auths":{"registry.example":{"auth":"aHVzaA=="}}}`
)

// sealedTo makes the start of a job with a secret variable and a login.
func sealedTo(t *testing.T, k sealKey, name string) protocol.Start {
	t.Helper()
	start := unstarted(name)
	start.Job.SecretEnv = map[string]protocol.Sealed{"TOKEN": {}}
	start.Job.PullSecret = new(protocol.Sealed)
	box := func(use, value string) protocol.Sealed {
		sealed, err := seal.Seal(k.public, seal.Purpose{Job: name, Spec: start.Job.Digest(), Use: use}, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	env, pull := box(seal.UseEnv("TOKEN"), hush), box(seal.UsePull, login)
	start.Job.SecretEnv["TOKEN"], start.Job.PullSecret = env, &pull
	return start
}

// secretsOf are an attempt's Secrets.
func secretsOf(t *testing.T, namespace string, ref protocol.Ref) map[string]corev1.Secret {
	t.Helper()
	list, err := site.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]corev1.Secret)
	for _, secret := range list.Items {
		if kind, ok := strings.CutPrefix(secret.Name, workload.Name(ref)+"-"); ok {
			found[kind] = secret
		}
	}
	return found
}

// checkSecrets checks that an attempt's Secrets have the values, go with the
// Job, and that nothing else has the values.
func checkSecrets(t *testing.T, namespace string, ref protocol.Ref) {
	t.Helper()
	job := jobOf(t, namespace, ref)
	secrets := secretsOf(t, namespace, ref)
	if got := string(secrets["env"].Data["TOKEN"]); got != hush {
		t.Errorf("the variable is %q", got)
	}
	pull := secrets["pull"]
	if got := string(pull.Data[corev1.DockerConfigJsonKey]); got != login || pull.Type != corev1.SecretTypeDockerConfigJson {
		t.Errorf("the login is %s, of type %s", got, pull.Type)
	}
	for kind, secret := range secrets {
		if len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].UID != job.UID || secret.Immutable == nil || !*secret.Immutable {
			t.Errorf("Secret %s: %+v", kind, secret.ObjectMeta)
		}
	}
	pods, err := site.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range []any{job, pods} {
		if text, err := json.Marshal(object); err != nil || strings.Contains(string(text), hush) {
			t.Errorf("a value is in %s, %v", text, err)
		}
	}
}

// TestSealed: sealed values come to be in Secrets of the Job and nowhere else,
// also where the agent that created the Job did not come to make them.
func TestSealed(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			namespace := newNamespace(t, nil)
			older, newer := newSealKey(t), newSealKey(t)
			var away atomic.Bool
			away.Store(crash)
			r := newRoom(t, []string{namespace}, opens(newer, older), through(t, withoutSecrets(&away)))
			ref := r.grant(sealedTo(t, older, "sealed"), namespace)
			if crash {
				r.until("a Job", func() bool { return jobOf(t, namespace, ref) != nil })
				r.stop()
				if n := len(secretsOf(t, namespace, ref)); n != 0 {
					t.Fatalf("%d Secrets are there before the crash", n)
				}
				r = newRoom(t, []string{namespace}, opens(newer, older))
			}
			r.await(ref, protocol.Queued, protocol.Unschedulable)
			r.until("Secrets", func() bool { return len(secretsOf(t, namespace, ref)) == 2 })
			checkSecrets(t, namespace, ref)
		})
	}
}

// TestCopiedJob: a Job that somebody copied into another compute namespace, with
// all that is on it, gets no secret value there, and does not stand before the
// real one.
func TestCopiedJob(t *testing.T) {
	theirs, ours := newNamespace(t, nil), newNamespace(t, nil)
	if theirs > ours {
		theirs, ours = ours, theirs // the copy is looked at first
	}
	key := newSealKey(t)
	r := newRoom(t, []string{theirs, ours}, opens(key))
	ref := r.grant(sealedTo(t, key, "copied"), ours)
	r.await(ref, protocol.Queued, protocol.Unschedulable)
	r.until("Secrets", func() bool { return len(secretsOf(t, ours, ref)) == 2 })
	real := jobOf(t, ours, ref)
	r.stop()

	fake := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: real.Name, Labels: real.Labels, Annotations: real.Annotations},
		Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: real.Spec.Template.Spec}},
	}
	fake.Spec.Template.Spec.Containers[0].Image = "thief:1"
	if _, err := site.Client().BatchV1().Jobs(theirs).Create(t.Context(), fake, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r = newRoom(t, []string{theirs, ours}, opens(key)) // which knows nothing but what it finds
	r.await(ref, protocol.Queued, protocol.Unschedulable)
	schedule(t, ours, ref)
	r.await(ref, protocol.Preparing, "")
	if secrets := secretsOf(t, theirs, ref); len(secrets) != 0 {
		t.Errorf("the copy was given %d Secrets", len(secrets))
	}
}

// TestUnreadable: a value that cannot be opened ends the attempt and says what
// to do; one that was opened before the key went ends nothing.
func TestUnreadable(t *testing.T) {
	key, other := newSealKey(t), newSealKey(t)
	wants := func(t *testing.T, e protocol.Event, words string) {
		t.Helper()
		if !strings.Contains(e.Reason.Message, words) || !strings.Contains(e.Reason.Message, "submit the job again") || strings.Contains(e.Reason.Message, hush) || e.Retry {
			t.Errorf("ended with %+v, %s", e, e.Reason)
		}
	}
	for name, tc := range map[string]struct {
		spoil func(*protocol.Job)
		words string
	}{
		"rotated":   {func(j *protocol.Job) { *j = sealedTo(t, other, j.Name).Job }, "env:TOKEN: it was sealed to key"},
		"altered":   {func(j *protocol.Job) { j.PullSecret.Box[40] ^= 1 }, "pull: its box does not open"},
		"swapped":   {func(j *protocol.Job) { j.SecretEnv["TOKEN"] = *j.PullSecret }, "env:TOKEN: it was sealed for another use"},
		"borrowed":  {func(j *protocol.Job) { j.SecretEnv = sealedTo(t, key, "victim").Job.SecretEnv }, "env:TOKEN: it was sealed for another job"},
		"rewritten": {func(j *protocol.Job) { j.Command = "echo $TOKEN" }, "env:TOKEN: it was sealed for another specification"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := newNamespace(t, nil)
			r := newRoom(t, []string{namespace}, opens(key))
			start := sealedTo(t, key, name)
			tc.spoil(&start.Job)
			ref := r.grant(start, namespace)
			wants(t, r.await(ref, protocol.Failed, protocol.SecretUnreadable), tc.words)
			if jobOf(t, namespace, ref) != nil {
				t.Error("it has a Job all the same")
			}
			r.oneEnd(ref)
		})
	}
	t.Run("between Job and Secrets", func(t *testing.T) {
		namespace := newNamespace(t, nil)
		var away atomic.Bool
		away.Store(true)
		r := newRoom(t, []string{namespace}, opens(key), through(t, withoutSecrets(&away)))
		ref := r.grant(sealedTo(t, key, "between"), namespace)
		pods := schedule(t, namespace, ref)
		r.stop()
		r = newRoom(t, []string{namespace}, opens(other))
		r.await(ref, protocol.Finalizing, protocol.SecretUnreadable)
		obey(t, pods[0])
		wants(t, r.await(ref, protocol.Failed, protocol.SecretUnreadable), "it was sealed to key")
		if n := len(secretsOf(t, namespace, ref)); n != 0 {
			t.Errorf("%d Secrets without values were made", n)
		}
	})
	t.Run("after the Secrets", func(t *testing.T) {
		namespace := newNamespace(t, nil)
		r := newRoom(t, []string{namespace}, opens(key))
		ref := r.grant(sealedTo(t, key, "after"), namespace)
		pods := schedule(t, namespace, ref)
		r.until("Secrets", func() bool { return len(secretsOf(t, namespace, ref)) == 2 })
		r.stop()
		r = newRoom(t, []string{namespace}, opens(other))
		runs(t, pods[0])
		r.await(ref, protocol.Running, "")
		exits(t, pods[0], 0)
		r.await(ref, protocol.Completed, "")
		checkSecrets(t, namespace, ref)
		r.oneEnd(ref)
	})
}

// withoutSecrets fails requests for Secrets, while away.
func withoutSecrets(away *atomic.Bool) func(*rest.Config) {
	return func(c *rest.Config) {
		c.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				if away.Load() && strings.HasSuffix(req.URL.Path, "/secrets") {
					return nil, fmt.Errorf("%s %s: the test is in the way", req.Method, req.URL.Path)
				}
				return next.RoundTrip(req)
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

package apiserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/policy"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// policyFile writes a policy.
func policyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, text)
	return path
}

// write replaces a file at once, as the kubelet does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// policyOf is the policy in a new file.
func policyOf(t *testing.T, text string) *policy.File { return policyIn(t, policyFile(t, text)) }

func policyIn(t *testing.T, path string) *policy.File {
	t.Helper()
	f, err := policy.NewFile(path, policy.Options{
		LaunchImage: "trainrelay-agent:dev",
		Timeout: func(job *batchv1.Job) time.Duration {
			return time.Duration(workload.TimeoutSeconds(job)) * time.Second
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPolicy: what the policy in force refuses is never created and ends with
// the rule; a broken policy lets nothing be created, and nothing be lost.
func TestPolicy(t *testing.T) {
	namespace := newNamespace(t, nil)
	created := countCreated(t, namespace)
	path := policyFile(t, "images: ['docker.io/library/sklearn:*']")
	r := newRoom(t, []string{namespace}, func(o *cluster.Options) { o.Policy = policyIn(t, path) })

	code := func(j *protocol.Job) { j.Code = "sha256:" + strings.Repeat("0", 64) }
	running := r.grant(unstarted("allowed", code), namespace) // with the agent's own image in its init container
	pods := schedule(t, namespace, running)
	runs(t, pods[0])
	r.await(running, protocol.Running, "")

	for _, tc := range []struct {
		name, policy, words string
		change              func(*protocol.Job)
	}{
		{"image", "images: ['docker.io/library/sklearn:*']", "policy: images: docker.io/library/busybox:1 matches none of", func(j *protocol.Job) { j.Image = "busybox:1" }},
		{"agents-image", "images: ['docker.io/library/sklearn:*']", "policy: images: docker.io/library/trainrelay-agent:dev", func(j *protocol.Job) { j.Image = "trainrelay-agent:dev" }},
		{"namespace", "namespaces: [elsewhere]", "policy: namespaces: " + namespace + " is none of elsewhere", func(*protocol.Job) {}},
		{"instances", "maxPerJob: {instances: 2}", "policy: maxPerJob.instances: 3 wanted, 2 allowed", func(j *protocol.Job) { j.Instances = 3 }},
		{"memory", "maxPerJob: {memory: 4Gi}", "policy: maxPerJob.memory: 12Gi wanted, 4Gi allowed", func(j *protocol.Job) { j.Instances = 3 }},
		{"timeout", "maxPerJob: {timeout: 1h}", "policy: maxPerJob.timeout: 2h0m0s wanted, 1h0m0s allowed", func(j *protocol.Job) { j.TimeoutSeconds = 7200 }},
		{"no-timeout", "maxPerJob: {timeout: 1h}", "limits.timeout", func(*protocol.Job) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			write(t, path, tc.policy)
			ref := r.grant(unstarted("refused-"+tc.name, tc.change), namespace)
			if e := r.await(ref, protocol.Failed, protocol.PolicyRefused); !strings.Contains(e.Reason.Message, tc.words) || e.Retry {
				t.Errorf("ended with %+v, %s", e, e.Reason)
			}
			r.oneEnd(ref)
		})
	}

	for name, breakIt := range map[string]func(){
		"broken":  func() { write(t, path, "images: [") },
		"missing": func() { _ = os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			breakIt()
			if err := r.Refusing(); err == nil || !strings.Contains(err.Error(), "the cluster's policy allows nothing") {
				t.Errorf("refusing for %v", err)
			}
			start := unstarted("while-" + name)
			ref := r.briefGrant(start, namespace)
			r.until("the grant to run out", func() bool { return !r.holds(ref) })
			if seen := r.observed(ref); len(seen) > 0 || jobOf(t, namespace, ref) != nil {
				t.Errorf("observed %v; Job %v", seen, jobOf(t, namespace, ref))
			}
			write(t, path, "{}")
			if err := r.Refusing(); err != nil {
				t.Errorf("refusing still, for %v", err)
			}
			r.awaitAny(r.grant(start, namespace))
		})
	}
	if n := len(created()); n != 3 {
		t.Errorf("%d Jobs were created, want those of allowed, while-broken and while-missing", n)
	}

	// What runs is left alone, also by an agent that knows only today's policy.
	write(t, path, "images: ['registry.example/**']")
	r.stop()
	r = newRoom(t, []string{namespace}, func(o *cluster.Options) { o.Policy = policyIn(t, path) })
	r.grant(unstarted("allowed", code), namespace)
	r.await(running, protocol.Running, "")
	exits(t, pods[0], 0)
	r.await(running, protocol.Completed, "")
	r.oneEnd(running)
}

// TestPolicyMeetsAnotherLeadersJob: a Job that the watch does not show yet was
// created under the policy of its time, and is adopted.
func TestPolicyMeetsAnotherLeadersJob(t *testing.T) {
	namespace := newNamespace(t, nil)
	r := newRoom(t, []string{namespace}, func(o *cluster.Options) {
		o.Policy = &meanwhile{File: policyOf(t, "images: ['a.example/**']"), do: func(job *batchv1.Job) {
			if _, err := site.Client().BatchV1().Jobs(namespace).Create(context.Background(), job, metav1.CreateOptions{}); err != nil {
				t.Error(err)
			}
		}}
	})
	ref := r.grant(unstarted("adopted"), namespace)
	if e := r.awaitAny(ref); e.State != protocol.Queued {
		t.Errorf("first observed as %s, %s", e.State, e.Reason)
	}
}

// meanwhile does something before it judges.
type meanwhile struct {
	*policy.File
	do func(*batchv1.Job)
}

func (m *meanwhile) Judge(job *batchv1.Job) (refusal, err error) {
	m.do(job)
	return m.File.Judge(job)
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// Exit codes, as trainrelay help exit-codes has them.
const (
	exitUsage    = 2
	exitFailed   = 3
	exitCanceled = 4
	exitNotFound = 5
	exitNoRelay  = 6
)

var count atomic.Int64

// unique makes the name of a job that no other test has.
func unique(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), count.Add(1))
}

// jobFile writes a job file; what the text does not set comes from the lab.
func jobFile(t *testing.T, text string) string {
	t.Helper()
	for key, value := range map[string]string{"environment": site(t).Image, "compute": site(t).Compute} {
		if !strings.HasPrefix(text, key+":") && !strings.Contains(text, "\n"+key+":") {
			text += fmt.Sprintf("\n%s: %s", key, value)
		}
	}
	file := filepath.Join(t.TempDir(), "job.yml")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// submit creates a job and returns at once.
func submit(t *testing.T, name, text string) {
	t.Helper()
	if out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, text), "--name", name); out.Code != 0 {
		t.Fatalf("job create: exit code %d: %s", out.Code, out.Stderr)
	}
}

func cancel(t *testing.T, name string) {
	t.Helper()
	if out := site(t).CLI(t.Context(), "job", "cancel", "-n", name); out.Code != 0 {
		t.Fatalf("job cancel: exit code %d: %s", out.Code, out.Stderr)
	}
}

func showJob(t *testing.T, name string) v1.Job {
	t.Helper()
	out := site(t).CLI(t.Context(), "job", "show", "-n", name, "-o", "json")
	var job v1.Job
	if err := json.Unmarshal([]byte(out.Stdout), &job); out.Code != 0 || err != nil {
		t.Fatalf("job show %s: exit code %d, %v: %s", name, out.Code, err, out.Stderr)
	}
	return job
}

// waitFor polls until the job is as wanted, and fails the test when it has
// ended otherwise or five minutes have passed.
func waitFor(t *testing.T, name string, wanted func(v1.Job) bool) v1.Job {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		job := showJob(t, name)
		switch {
		case wanted(job):
			return job
		case job.Status.Terminal():
			t.Fatalf("job %s ended as %s, %v", name, job.Status, job.Reason)
		case time.Now().After(deadline):
			t.Fatalf("job %s is still %s, %v", name, job.Status, job.Reason)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// kubernetesJobs lists the Jobs of a job, of all attempts and namespaces.
func kubernetesJobs(t *testing.T, name string) []batchv1.Job {
	t.Helper()
	list, err := site(t).Client.BatchV1().Jobs("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var jobs []batchv1.Job
	for _, job := range list.Items {
		if job.Annotations["trainrelay.dev/job"] == name {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// kubernetesPods lists the pods of a job.
func kubernetesPods(t *testing.T, name string) []corev1.Pod {
	t.Helper()
	list, err := site(t).Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.Annotations["trainrelay.dev/job"] == name {
			pods = append(pods, pod)
		}
	}
	return pods
}

// waitForSync waits until the cluster's agent has synced after now.
func waitForSync(t *testing.T) {
	t.Helper()
	now := time.Now()
	for deadline := now.Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName, "-o", "json")
		var cluster v1.Cluster
		if err := json.Unmarshal([]byte(out.Stdout), &cluster); out.Code != 0 || err != nil {
			t.Fatalf("cluster show: exit code %d, %v: %s", out.Code, err, out.Stderr)
		}
		if cluster.LastSync != nil && cluster.LastSync.After(now) {
			return
		}
	}
	t.Fatal("the agent does not sync")
}

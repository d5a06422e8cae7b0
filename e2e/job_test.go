package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestMainJob is what the product is for: a job file goes in at the relay and
// trains as a Kubernetes Job, its output comes back while it runs.
func TestMainJob(t *testing.T) {
	name := unique("iris")
	out := site(t).CLI(t.Context(), "job", "create", "-f", filepath.Join(site(t).Repo, "examples", "iris", "job.yml"), "--name", name, "--stream")
	if out.Code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", out.Code, out.Stdout, out.Stderr)
	}
	epochs := regexp.MustCompile(`(?m)^epoch +(\d+)/20 .*test accuracy (\S+)$`).FindAllStringSubmatch(out.Stdout, -1)
	if len(epochs) != 20 {
		t.Fatalf("%d lines of epochs, want 20:\n%s", len(epochs), out.Stdout)
	}
	for i, epoch := range epochs {
		if epoch[1] != fmt.Sprint(i+1) {
			t.Errorf("line %d is of epoch %s", i+1, epoch[1])
		}
	}
	if !strings.Contains(out.Stdout, "confusion matrix") {
		t.Errorf("the last lines of the output are missing:\n%s", out.Stdout)
	}

	job := showJob(t, name)
	if job.Status != protocol.Completed || job.ExitCode == nil || *job.ExitCode != 0 || job.Attempt != 1 || job.Node == "" {
		t.Errorf("the record says %+v", job)
	}
	if diff := cmp.Diff(map[string]string{"epochs": "20", "test_size": "0.3", "seed": "7"}, job.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	jobs := kubernetesJobs(t, name)
	if len(jobs) != 1 || jobs[0].Namespace != site(t).Namespace {
		t.Errorf("%d Kubernetes Jobs, want one in %s", len(jobs), site(t).Namespace)
	}
}

// TestRunIDFromQuery: the idiom of az ml scripts.
func TestRunIDFromQuery(t *testing.T) {
	file := jobFile(t, "command: echo hello from $AZUREML_RUN_ID")
	out := site(t).CLI(t.Context(), "job", "create", "-f", file, "--query", "name", "-o", "tsv")
	if out.Code != 0 {
		t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
	}
	name := strings.TrimSuffix(out.Stdout, "\n")
	if protocol.CheckName(name) != nil {
		t.Fatalf("stdout holds more than the name: %q", out.Stdout)
	}
	streamed := site(t).CLI(t.Context(), "job", "stream", "-n", name)
	if want := "hello from " + name + "\n"; streamed.Code != 0 || !strings.Contains(streamed.Stdout, want) {
		t.Errorf("exit code %d, output lacks %q:\n%s\n%s", streamed.Code, want, streamed.Stdout, streamed.Stderr)
	}
}

// TestCode: the pod has the folder's files as they were packed, without what
// is ignored, and may write beside them.
func TestCode(t *testing.T) {
	file := jobFile(t, "code: ./src\ncommand: ls -1 && ./tool.sh && echo more >> data/table.csv && touch new data/new && wc -l < data/table.csv")
	for name, content := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"src/.amlignore":     {"*.tmp\n", 0o644},
		"src/scratch.tmp":    {"not sent", 0o644},
		"src/tool.sh":        {"#!/bin/sh\necho the tool runs\n", 0o755},
		"src/data/table.csv": {"a,b\n1,2\n", 0o600},
	} {
		path := filepath.Join(filepath.Dir(file), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content.text), content.mode); err != nil {
			t.Fatal(err)
		}
	}
	out := site(t).CLI(t.Context(), "job", "create", "-f", file, "--stream")
	if out.Code != 0 || !strings.Contains(out.Stdout, "data\ntool.sh\nthe tool runs\n3\n") {
		t.Errorf("exit code %d\n%s\n%s", out.Code, out.Stdout, out.Stderr)
	}
}

// TestFailuresSayWhy: each way to fail ends in Failed with a reason that a
// person can act on, and its own exit code of the CLI.
func TestFailuresSayWhy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, job string
		code      protocol.ReasonCode
		message   string
	}{
		{"exit code", "command: echo to the log; echo no such column >&2; exit 3", protocol.ExitCode, "3"},
		{"out of memory", "command: python3 -c 'x = bytearray(3 << 30)'", protocol.OOMKilled, "2Gi"},
		{"timeout", "command: sleep 300\nlimits: {timeout: 2}", protocol.Timeout, "2s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			name := unique("fails")
			out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, tc.job), "--name", name, "--stream")
			if out.Code != exitFailed {
				t.Errorf("exit code %d, want %d\n%s", out.Code, exitFailed, out.Stderr)
			}
			job := showJob(t, name)
			if job.Status != protocol.Failed || job.Reason == nil || job.Reason.Code != tc.code || !strings.Contains(job.Reason.Message, tc.message) {
				t.Errorf("ended as %s, %v; want %s with %q", job.Status, job.Reason, tc.code, tc.message)
			}
		})
	}
}

// TestWaitingSaysWhy: an image that cannot be pulled and a job that fits no
// node are told while they wait, and can be cancelled.
func TestWaitingSaysWhy(t *testing.T) {
	name := unique("no-image")
	submit(t, name, "command: 'true'\nenvironment: {image: registry.invalid/nobody/nothing:1}")
	job := waitFor(t, name, func(j v1.Job) bool { return j.Reason != nil && j.Reason.Code == protocol.ImagePull })
	if !strings.Contains(job.Reason.Message, "registry.invalid/nobody/nothing:1") {
		t.Errorf("the reason does not name the image: %v", job.Reason)
	}
	cancel(t, name)
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Canceled })
}

// TestSeveralInstances: every rank runs, knows its rank and finds the others
// by name.
func TestSeveralInstances(t *testing.T) {
	name := unique("ranks")
	out := site(t).CLI(t.Context(), "job", "create", "--name", name, "--stream", "-f",
		jobFile(t, "command: echo rank $AZUREML_CR_NODE_RANK reporting\nresources: {instance_count: 2}"))
	if out.Code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", out.Code, out.Stdout, out.Stderr)
	}
	for _, want := range []string{"rank 0 reporting", "rank 1 reporting"} {
		if strings.Count(out.Stdout, want) != 1 {
			t.Errorf("%q stands %d times in:\n%s", want, strings.Count(out.Stdout, want), out.Stdout)
		}
	}
}

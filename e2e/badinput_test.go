package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestBadInput: what cannot run is refused with words that help, and nothing
// is queued; what only the cluster can judge ends in Failed with its words.
func TestBadInput(t *testing.T) {
	t.Run("job file", func(t *testing.T) {
		name := unique("bad")
		file := filepath.Join(t.TempDir(), "job.yml")
		text := "name: " + name + "\ncomand: python train.py\nenvironment: {image: x}\ncompute: " + site(t).Compute +
			"\nresources:\n  instance_count: many\n  docker_args: --privileged\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out := site(t).CLI(t.Context(), "job", "create", "-f", file)
		if out.Code != exitUsage {
			t.Errorf("exit code %d, want %d", out.Code, exitUsage)
		}
		for _, want := range []string{
			file + ":2:1", "comand: python train.py", "command", // the place, the line, the hint
			file + ":6:", "instance_count", // all problems at once
			file + ":7:", "docker_args", "not supported yet",
		} {
			if !strings.Contains(out.Stderr, want) {
				t.Errorf("the error lacks %q:\n%s", want, out.Stderr)
			}
		}
		if shown := site(t).CLI(t.Context(), "job", "show", "-n", name); shown.Code != exitNotFound {
			t.Errorf("something was queued: exit code %d, %s", shown.Code, shown.Stdout)
		}
	})
	t.Run("compute", func(t *testing.T) {
		out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: 'true'\ncompute: nowhere"))
		if out.Code == 0 || !strings.Contains(out.Stderr, "nowhere") {
			t.Errorf("exit code %d: %s", out.Code, out.Stderr)
		}
	})
	t.Run("image", func(t *testing.T) {
		out := site(t).CLI(t.Context(), "job", "create", "-f", jobFile(t, "command: 'true'\nenvironment: {image: 'two words'}"))
		if out.Code != exitUsage || !strings.Contains(out.Stderr, "two words") {
			t.Errorf("exit code %d, want %d: %s", out.Code, exitUsage, out.Stderr)
		}
	})
	t.Run("namespace", func(t *testing.T) {
		made := site(t).CLI(t.Context(), "compute", "attach", "-n", "elsewhere", "--cluster", site(t).ClusterName, "--namespace", "elsewhere", "--no-wait")
		if made.Code != 0 {
			t.Fatalf("compute attach: exit code %d: %s", made.Code, made.Stderr)
		}
		t.Cleanup(func() { compute(t, "detach", "--name", "elsewhere") })
		name := unique("elsewhere")
		out := site(t).CLI(t.Context(), "job", "create", "--name", name, "--stream", "-f", jobFile(t, "command: 'true'\ncompute: elsewhere"))
		job := showJob(t, name)
		if out.Code != exitFailed || job.Reason == nil || job.Reason.Code != protocol.NamespaceMissing || !strings.Contains(job.Reason.Message, "elsewhere") {
			t.Errorf("exit code %d, want %d: %+v", out.Code, exitFailed, job.Reason)
		}
	})
	t.Run("message", func(t *testing.T) {
		before := site(t).Metric(t, "trainrelay_dead_letters_total")
		reply := site(t).AgentRequest(t, protocol.VerbEvent, []byte(`{"v":1,"kind":"event","body":{"events":[{"job":"../../etc"}]}}`))
		if err := protocol.Decode(reply, new(protocol.EventReply)); err == nil || !strings.Contains(err.Error(), "is not a job's name") {
			t.Errorf("answered with %v", err)
		}
		if after := site(t).Metric(t, "trainrelay_dead_letters_total"); after != before+1 {
			t.Errorf("%v dead letters, want %v", after, before+1)
		}
		if out := site(t).CLI(t.Context(), "job", "list", "-o", "json"); out.Code != 0 {
			t.Errorf("the relay is worse for it: %s", out.Stderr)
		}
	})
}

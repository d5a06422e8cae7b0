package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestCommandJobSchema: files as az ml has them, of today and of 2021, run
// unchanged.
func TestCommandJobSchema(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "show.sh"), []byte("#!/bin/sh\necho \"args:$*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, file, want, note string }{
		{"of today", `$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
code: ./src
command: >-
  ./show.sh $[[--resume ${{inputs.resume}}]] $[[--epochs ${{inputs.epochs}}]] && df -m /dev/shm | grep -ow 64 | head -n 1
inputs:
  epochs: 3
  resume:
environment: {image: IMAGE}
compute: azureml:COMPUTE
resources: {instance_count: 1, shm_size: 64m}
queue_settings: {priority: high}
properties: {owner: me}
identity: {type: managed}
services: {board: {type: tensor_board, log_dir: ./logs}}
`, "args:--epochs 3\n64\n", "identity is ignored"},
		{"of 2021", `code: {local_path: ./src}
command: ./show.sh {inputs.rate} && echo ${HOME:+home}
inputs: {rate: 0.10}
environment: {docker: {image: IMAGE}}
compute: {target: azureml:COMPUTE, instance_count: 1}
`, "args:0.10\nhome\n", "today it is written `code: FOLDER`"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(tc.name, " ", "-")+".yml")
			text := strings.NewReplacer("IMAGE", site(t).Image, "COMPUTE", site(t).Compute).Replace(tc.file)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if out := site(t).CLI(t.Context(), "job", "validate", "-f", file); out.Code != 0 {
				t.Fatalf("job validate: exit code %d: %s", out.Code, out.Stderr)
			}
			name := unique("schema")
			out := site(t).CLI(t.Context(), "job", "create", "-f", file, "--name", name, "--stream")
			if out.Code != 0 || !strings.Contains(out.Stdout, tc.want) || !strings.Contains(out.Stderr, tc.note) {
				t.Errorf("exit code %d; output, wanted with %q and a note, %q:\n%s\n%s", out.Code, tc.want, tc.note, out.Stdout, out.Stderr)
			}
			if job := showJob(t, name); job.Status != protocol.Completed {
				t.Errorf("%s, %v", job.Status, job.Reason)
			}
		})
	}
}

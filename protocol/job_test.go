package protocol

import (
	"fmt"
	"strings"
	"testing"
)

func TestJobValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Job)
		want   string // in the error; "" for a valid job
	}{
		{"valid", func(*Job) {}, ""},
		{"no code", func(j *Job) { j.Code = "" }, ""},
		{"no name", func(j *Job) { j.Name = "" }, "name: "},
		{"name for a path", func(j *Job) { j.Name = "a/b" }, `name: "a/b"`},
		{"name for a subject", func(j *Job) { j.Name = "a.>" }, `name: "a.>"`},
		{"long name", func(j *Job) { j.Name = strings.Repeat("a", MaxName+1) }, "name: "},
		{"blank command", func(j *Job) { j.Command = " \n" }, "command: is empty"},
		{"NUL in the command", func(j *Job) { j.Command = "a\x00b" }, "command: contains a NUL"},
		{"no image", func(j *Job) { j.Image = "" }, "image: "},
		{"image with a blank", func(j *Job) { j.Image = "a b" }, "image: "},
		{"image by its id", func(j *Job) { j.Image = "sha256:" + strings.Repeat("ab", 32) }, "is the id of an image"},
		{"image by its digest", func(j *Job) { j.Image = "python@sha256:" + strings.Repeat("ab", 32) }, ""},
		{"code is a path", func(j *Job) { j.Code = "./src" }, `code: "./src" is not a digest`},
		{"compute", func(j *Job) { j.Compute = "-x" }, `compute: "-x"`},
		{"no instances", func(j *Job) { j.Instances = 0 }, "instance_count: 0"},
		{"many instances", func(j *Job) { j.Instances = MaxInstances + 1 }, "instance_count: 1001"},
		{"negative timeout", func(j *Job) { j.TimeoutSeconds = -1 }, "timeout_seconds: -1"},
		{"variable's name", func(j *Job) { j.Env = map[string]string{"A=B": "c"} }, `environment_variables: "A=B"`},
		{"variable's value", func(j *Job) { j.Env = map[string]string{"A": "\x00"} }, "the value of A"},
		{"many tags", func(j *Job) {
			for i := range MaxTags + 1 {
				j.Tags[fmt.Sprint(i)] = ""
			}
		}, "tags: "},
		{"properties", func(j *Job) { j.Properties = map[string]string{"a": "b"} }, ""},
		{"negative shm", func(j *Job) { j.ShmBytes = -1 }, "shm_bytes: -1"},
		{"huge shm", func(j *Job) { j.ShmBytes = MaxShm + 1 }, "shm_bytes: 4398046511105"},
		{"huge", func(j *Job) { j.Description = strings.Repeat("x", MaxJobSpec) }, "bytes as JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job := iris()
			tc.change(&job)
			err := job.Validate()
			if tc.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestJobValidateNamesAllProblems(t *testing.T) {
	err := (&Job{}).Validate()
	for _, field := range []string{"name", "command", "image", "compute", "instance_count"} {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
}

func TestUpSubject(t *testing.T) {
	if c, v, ok := ParseUpSubject(UpSubject("onprem-1", VerbSync)); c != "onprem-1" || v != VerbSync || !ok {
		t.Errorf("%q %q %v", c, v, ok)
	}
	for _, bad := range []string{"", "up", "up.", "up..sync", "up.a", "up.a.", "up.a.b.c", "down.a.sync"} {
		if c, v, ok := ParseUpSubject(bad); ok {
			t.Errorf("%q is taken for %q %q", bad, c, v)
		}
	}
}

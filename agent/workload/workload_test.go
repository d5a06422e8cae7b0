package workload

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/trainrelay/trainrelay/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var options = Options{
	LaunchImage:      "registry.example/trainrelay-agent:1",
	GatewayURL:       "http://trainrelay-agent.azureml.svc:8080",
	ImagePullSecrets: []string{"registry"},
}

func iris() *protocol.Start {
	return &protocol.Start{Attempt: 1, Job: protocol.Job{
		Name: "iris-1", Experiment: "demo", Command: `python3 train.py --seed $SEED && echo "$$ $(date)"`,
		Code: "sha256:" + strings.Repeat("ab", 32), Image: "sklearn:1", Env: map[string]string{"SEED": "7", "PRICE": "$(SEED) $"},
		Compute: "onprem", Instances: 1, TimeoutSeconds: 3600,
	}}
}

func ranks() *protocol.Start {
	return &protocol.Start{Attempt: 10, Job: protocol.Job{
		Name: "allreduce", Command: "hostname", Image: "busybox", Compute: "onprem", Instances: 3,
	}}
}

func shm() *protocol.Start {
	return &protocol.Start{Attempt: 1, Job: protocol.Job{
		Name: "loader", Command: "python3 train.py", Image: "torch:1", Compute: "onprem", Instances: 1, ShmBytes: 2 << 30,
	}}
}

func TestShmIsPartOfMemory(t *testing.T) {
	start := shm()
	start.Job.ShmBytes = 5 << 30
	_, err := Job(start, &protocol.Compute{Name: "onprem", Namespace: "train"}, options)
	if err == nil || !strings.Contains(err.Error(), "shm_size 5Gi is more than the memory of an instance, 4Gi") {
		t.Errorf("%v", err)
	}
}

func sealed() *protocol.Start {
	box := func(text string) protocol.Sealed {
		return protocol.Sealed{To: "X" + strings.Repeat("T", 55), From: "X" + strings.Repeat("F", 55), Box: []byte(text)}
	}
	pull := box("box of the registry")
	return &protocol.Start{Attempt: 1, Job: protocol.Job{
		Name: "gated", Command: "python3 fetch.py", Image: "registry.example/sklearn:1", Env: map[string]string{"SEED": "7"}, Compute: "onprem", Instances: 1,
		SecretEnv: map[string]protocol.Sealed{"HF_TOKEN": box("box 1"), "AZUREML_RUN_ID": box("box 2")}, PullSecret: &pull,
	}}
}

// gpus is a start on a compute that says all that one can say.
func gpus() (*protocol.Start, *protocol.Compute) {
	user, seconds := int64(1000), int64(300)
	return &protocol.Start{Attempt: 1, InstanceType: "gpu_instance", Job: protocol.Job{
			Name: "resnet", Command: "nvidia-smi", Image: "cuda:1", Compute: "onprem", Instances: 1,
		}}, &protocol.Compute{Name: "onprem", Namespace: "amlarc-testing", ComputeSettings: protocol.ComputeSettings{
			DefaultInstanceType: "gpu_instance",
			InstanceTypes: map[string]protocol.InstanceType{"gpu_instance": {
				NodeSelector: map[string]string{"accelerator": "nvidia-tesla-k80"},
				Resources: protocol.Amounts{
					Requests: map[string]string{"cpu": "2", "memory": "16Gi", "nvidia.com/gpu": "1"},
					Limits:   map[string]string{"cpu": "2", "memory": "16Gi", "nvidia.com/gpu": "1"},
				},
			}},
			RunAsUser: &user, ImagePullSecrets: []string{"mirror"}, PriorityClass: "training",
			Tolerations: []protocol.Toleration{{Key: "sku", Operator: "Equal", Value: "gpu", Effect: "NoExecute", TolerationSeconds: &seconds}},
		}}
}

// made is the Job of a start on a compute without settings.
func made(t interface{ Fatal(...any) }, start *protocol.Start) *batchv1.Job {
	job, err := Job(start, &protocol.Compute{Name: "onprem", Namespace: "train"}, options)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestGolden(t *testing.T) {
	start, compute := gpus()
	gpu, err := Job(start, compute, options)
	if err != nil {
		t.Fatal(err)
	}
	irisJob := made(t, iris())
	irisJob.UID = "00000000-0000-0000-0000-000000000001"
	secret := Secret(irisJob, "the token")
	env, pull := EnvSecret(irisJob, map[string][]byte{"HF_TOKEN": []byte("hush")}), PullSecret(irisJob, []byte(`{"auths":{}}`))
	irisJob.UID = ""
	for name, object := range map[string]any{
		"job":    irisJob,
		"ranks":  made(t, ranks()),
		"gpu":    gpu,
		"sealed": made(t, sealed()),
		"shm":    made(t, shm()),
		"secret": secret,
		"env":    env,
		"pull":   pull,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-golden +now):\n%s", diff)
			}
		})
	}
}

// TestImageIsInFull: pods have the reference that the policy judges, which no
// runtime takes for the id of an image that its node has.
func TestImageIsInFull(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("ab", 32)
	for given, want := range map[string]string{
		"sklearn:1":                          "docker.io/library/sklearn:1",
		"busybox":                            "docker.io/library/busybox:latest",
		"user/image:1":                       "docker.io/user/image:1",
		"index.docker.io/library/python:3":   "docker.io/library/python:3",
		"registry.example:5000/a/b:1":        "registry.example:5000/a/b:1",
		"python:3.12" + digest:               "docker.io/library/python" + digest,
		"sha256:" + strings.Repeat("ab", 32): "docker.io/library/sha256:" + strings.Repeat("ab", 32),
		"Not a reference":                    "Not a reference",
	} {
		start := iris()
		start.Job.Image = given
		if got := made(t, start).Spec.Template.Spec.Containers[0].Image; got != want {
			t.Errorf("%s became %s, want %s", given, got, want)
		}
	}
}

// TestTokenIsOnlyInTheSecret: whoever may read Jobs and pods learns no token.
func TestTokenIsOnlyInTheSecret(t *testing.T) {
	job := made(t, iris())
	for _, volume := range job.Spec.Template.Spec.Volumes {
		for _, mount := range job.Spec.Template.Spec.Containers[0].VolumeMounts {
			if volume.Secret != nil && mount.Name == volume.Name {
				t.Errorf("the command's container mounts the Secret %s", volume.Secret.SecretName)
			}
		}
	}
	if got := string(Secret(job, "hush").Data["token"]); got != "hush" {
		t.Errorf("the Secret holds %q", got)
	}
}

// TestSealed: the boxes come back as they went in, and only the Job has them.
func TestSealed(t *testing.T) {
	start := sealed()
	job := made(t, start)
	got, err := Sealed(job)
	if diff := cmp.Diff(Boxes{Env: start.Job.SecretEnv, Pull: start.Job.PullSecret}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if note, has := job.Spec.Template.Annotations[AnnotationSealed]; has {
		t.Errorf("the pods have the boxes, too: %s", note)
	}
	if got, err := Sealed(made(t, iris())); err != nil || got.Env != nil || got.Pull != nil {
		t.Errorf("a job without secrets has %v, %v", got, err)
	}
	job.Annotations[AnnotationSealed] = "{"
	if _, err := Sealed(job); err == nil {
		t.Error("a broken annotation is read")
	}
}

// TestSelectorAsTold: what people are told to look for, or to delete, is what
// the agent made. The command line links nothing of Kubernetes, so its text is
// looked at.
func TestSelectorAsTold(t *testing.T) {
	told := regexp.MustCompile("kubectl [a-z ]*jobs [^`\n]*-l ([^ )`\n]+)")
	for _, file := range []string{"internal/cli/cluster.go", "docs/operate.md", "deploy/charts/trainrelay-agent/README.md"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		found := told.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s tells no selector of Jobs", file)
		}
		for _, match := range found {
			if match[1] != Selector {
				t.Errorf("%s says %q, Jobs have %q", file, match[0], Selector)
			}
		}
	}
}

// TestName: any attempt's name, with index and suffix, is a DNS label, and
// attempts do not share names.
func TestName(t *testing.T) {
	ref := rapid.Custom(func(t *rapid.T) protocol.Ref {
		return protocol.Ref{
			Job:     rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,253}`).Draw(t, "job"),
			Attempt: rapid.IntRange(1, protocol.MaxAttempts).Draw(t, "attempt"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := ref.Draw(t, "a"), ref.Draw(t, "b")
		if problems := validation.IsDNS1123Label(Name(a) + "-999-abcde"); len(problems) > 0 {
			t.Fatalf("%s: %v", Name(a), problems)
		}
		if (Name(a) == Name(b)) != (a == b) {
			t.Fatalf("%s is %s, %s is %s", a, Name(a), b, Name(b))
		}
	})
}

func TestIdentity(t *testing.T) {
	start := iris()
	job := made(t, start)
	id, err := IdentifyJob(job)
	if err != nil {
		t.Fatal(err)
	}
	if id.Compute != "onprem" || id.Same(start) != nil {
		t.Errorf("identity %+v is not that of its start: %v", id, id.Same(start))
	}
	if got := TimeoutSeconds(job); got != 3600 {
		t.Errorf("timeout is %d", got)
	}
	other := iris()
	other.Job.Command = "true"
	if err := id.Same(other); err == nil || !strings.Contains(err.Error(), "another specification") {
		t.Errorf("another specification: %v", err)
	}
	other.Attempt = 2
	if err := id.Same(other); err == nil || !strings.Contains(err.Error(), "attempt iris-1/1") {
		t.Errorf("another attempt: %v", err)
	}
	for name, spoil := range map[string]func(map[string]string){
		"no attempt":      func(n map[string]string) { delete(n, AnnotationAttempt) },
		"attempt 0":       func(n map[string]string) { n[AnnotationAttempt] = "0" },
		"no job":          func(n map[string]string) { delete(n, AnnotationJob) },
		"another's notes": func(n map[string]string) { n[AnnotationAttempt] = "2" },
	} {
		job := made(t, start)
		spoil(job.Annotations)
		if id, err := IdentifyJob(job); err == nil {
			t.Errorf("%s: taken for %+v", name, id)
		}
	}
}

func TestStopping(t *testing.T) {
	job := made(t, iris())
	if got := Stopping(job); got != nil {
		t.Errorf("a new Job is stopping: %+v", got)
	}
	want := &Stop{State: protocol.Failed, Reason: *protocol.NewReason(protocol.NodeLost, "node %q", "n1"), Retry: true}
	job.Annotations[AnnotationStopping] = want.Annotation()
	if diff := cmp.Diff(want, Stopping(job)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, note := range []string{"", "nonsense", "{}", `{"state":"Running"}`} {
		job.Annotations[AnnotationStopping] = note
		if got := Stopping(job); got != nil {
			t.Errorf("%q is taken for %+v", note, got)
		}
	}
}

func TestRank(t *testing.T) {
	pod := new(corev1.Pod)
	for note, want := range map[string]int{"0": 0, "12": 12, "": -1, "x": -1, "-1": -1, "100000": -1} {
		pod.Annotations = map[string]string{"batch.kubernetes.io/job-completion-index": note}
		got, err := Rank(pod)
		if err == nil && got != want || err != nil && want != -1 {
			t.Errorf("%q: rank %d, %v", note, got, err)
		}
	}
}

func TestUserEnvironmentWins(t *testing.T) {
	start := iris()
	start.Job.Env = map[string]string{"AZUREML_CR_NODE_RANK": "mine", "AZUREML_RUN_ID": "mine"}
	seen := map[string]string{}
	for _, e := range made(t, start).Spec.Template.Spec.Containers[0].Env {
		if _, twice := seen[e.Name]; twice {
			t.Errorf("%s is set twice", e.Name)
		}
		seen[e.Name] = e.Value
	}
	if seen["AZUREML_CR_NODE_RANK"] != "mine" || seen["AZUREML_RUN_ID"] != "mine" {
		t.Errorf("environment is %v", seen)
	}
}

package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const launchImage = "ghcr.io/trainrelay/trainrelay-agent:1"

// timeoutNote is where the Jobs of these tests have their timeout.
const timeoutNote = "timeout"

var options = Options{LaunchImage: launchImage, Timeout: func(job *batchv1.Job) time.Duration {
	limit, _ := time.ParseDuration(job.Annotations[timeoutNote])
	return limit
}}

// plain is a Job that only its policy can refuse.
func plain() *batchv1.Job {
	secure := func() *corev1.SecurityContext {
		return &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
	}
	take := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "train", Annotations: map[string]string{}}}
	job.Spec.Completions, job.Spec.Parallelism = ptr.To(int32(2)), ptr.To(int32(2))
	job.Spec.Template.Spec = corev1.PodSpec{
		AutomountServiceAccountToken: ptr.To(false),
		SecurityContext:              &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		InitContainers:               []corev1.Container{{Name: "code", Image: launchImage, Resources: take("1", "256Mi"), SecurityContext: secure()}},
		Containers:                   []corev1.Container{{Name: "main", Image: "python:3.12", Resources: take("2", "2Gi"), SecurityContext: secure()}},
		Volumes:                      []corev1.Volume{{Name: "code", VolumeSource: corev1.VolumeSource{EmptyDir: new(corev1.EmptyDirVolumeSource)}}},
	}
	return job
}

func TestJudge(t *testing.T) {
	pod := func(change func(*corev1.PodSpec)) func(*batchv1.Job) {
		return func(job *batchv1.Job) { change(&job.Spec.Template.Spec) }
	}
	main := func(change func(*corev1.Container)) func(*batchv1.Job) {
		return pod(func(p *corev1.PodSpec) { change(&p.Containers[0]) })
	}
	secured := func(change func(*corev1.SecurityContext)) func(*batchv1.Job) {
		return main(func(c *corev1.Container) { change(c.SecurityContext) })
	}
	image := func(name string) func(*batchv1.Job) { return main(func(c *corev1.Container) { c.Image = name }) }
	mounts := func(source corev1.VolumeSource) func(*batchv1.Job) {
		return pod(func(p *corev1.PodSpec) { p.Volumes = append(p.Volumes, corev1.Volume{Name: "v", VolumeSource: source}) })
	}
	gpus := func(n string) func(*batchv1.Job) {
		return main(func(c *corev1.Container) { c.Resources.Limits["nvidia.com/gpu"] = resource.MustParse(n) })
	}
	stores := func(size string) func(*batchv1.Job) {
		return main(func(c *corev1.Container) {
			c.Resources.Limits[corev1.ResourceEphemeralStorage] = resource.MustParse(size)
		})
	}
	lasts := func(timeout string) func(*batchv1.Job) {
		return func(job *batchv1.Job) { job.Annotations[timeoutNote] = timeout }
	}
	same := func(*batchv1.Job) {}
	digest := "@sha256:" + strings.Repeat("ab", 32)

	for _, tc := range []struct {
		name, policy string
		change       func(*batchv1.Job)
		want         string // of the refusal; empty for none
	}{
		{"no rules", "{}", same, ""},
		{"a tag", "images: ['docker.io/library/python:3.*']", same, ""},
		{"another tag", "images: ['docker.io/library/python:3.*']", image("python:2.7"), "images: docker.io/library/python:2.7 matches none of docker.io/library/python:3.*"},
		{"no tag", "images: ['docker.io/library/python:3.*']", image("python"), "images: docker.io/library/python:latest matches none"},
		{"the long form", "images: ['docker.io/library/python:3.*']", image("index.docker.io/library/python:3.12"), ""},
		{"any digest", "images: ['docker.io/library/*']", image("python:3.12" + digest), ""},
		{"a digest", "images: ['docker.io/library/python@sha256:*']", image("python" + digest), ""},
		{"a digest beside a tag", "images: ['docker.io/library/python@sha256:*']", image("python:3.12" + digest), ""},
		{"a digest behind an allowed tag", "images: ['docker.io/library/python:3.*']", image("python:3.12" + digest), "images: docker.io/library/python@sha256:abab"},
		{"one digest only", "images: ['docker.io/library/python" + digest + "']", image("python@sha256:" + strings.Repeat("cd", 32)), "matches none"},
		{"the id of an image", "images: ['docker.io/library/**']", image("sha256:" + strings.Repeat("ab", 32)), "is named like a digest"},
		{"the id of an image, in short", "images: ['**']", image("sha256:abab"), "is named like a digest"},
		{"within a part", "images: ['registry.example/train/*']", image("registry.example/train/a/b:1"), "images: registry.example/train/a/b:1 matches none"},
		{"across parts", "images: ['registry.example/train/**']", image("registry.example/train/a/b:1"), ""},
		{"another registry", "images: ['registry.example/**']", image("registry.example.org/a:1"), "images: registry.example.org/a:1"},
		{"a registry as a part", "images: ['registry.example/**']", image("evil.example/registry.example/a:1"), "images: evil.example/"},
		{"a port", "images: ['registry.example:5000/**']", image("registry.example/a:1"), "images: registry.example/a:1"},
		{"the second pattern", "images: ['a.example/**', 'docker.io/**']", same, ""},
		{"no reference", "images: ['docker.io/**']", image("Python:1"), `images: "Python:1" is not a reference`},
		{"the agent's image in the command's container", "images: ['docker.io/**']", image(launchImage), "images: " + launchImage},
		{"another image before the command", "images: ['docker.io/**']", pod(func(p *corev1.PodSpec) { p.InitContainers[0].Image = launchImage + "0" }), "images: " + launchImage + "0"},

		{"a namespace", "namespaces: [train]", same, ""},
		{"another namespace", "namespaces: [vision, text]", same, "namespaces: train is none of vision, text"},

		{"instances", "maxPerJob: {instances: 2}", same, ""},
		{"too many instances", "maxPerJob: {instances: 1}", same, "maxPerJob.instances: 2 wanted, 1 allowed"},
		{"cpu", "maxPerJob: {cpu: 4}", same, ""},
		{"too much cpu", "maxPerJob: {cpu: 3999m}", same, "maxPerJob.cpu: 4 wanted, 3999m allowed"},
		{"memory", "maxPerJob: {memory: 4Gi}", same, ""},
		{"too much memory", "maxPerJob: {memory: 4095Mi}", same, "maxPerJob.memory: 4Gi wanted, 4095Mi allowed"},
		{"memory of an init container", "maxPerJob: {memory: 4Gi}", pod(func(p *corev1.PodSpec) {
			p.InitContainers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("3Gi")
		}), "maxPerJob.memory: 6Gi wanted, 4Gi allowed"},
		{"memory of an init container that stays", "maxPerJob: {memory: 4Gi}", pod(func(p *corev1.PodSpec) {
			p.InitContainers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		}), "maxPerJob.memory: 4608Mi wanted, 4Gi allowed"},
		{"memory of the pod", "maxPerJob: {memory: 4Gi}", pod(func(p *corev1.PodSpec) {
			p.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}}
		}), "maxPerJob.memory: 16Gi wanted, 4Gi allowed"},
		{"no limit", "maxPerJob: {memory: 4Gi}", main(func(c *corev1.Container) { delete(c.Resources.Limits, corev1.ResourceMemory) }), "maxPerJob.memory: container main has no limit"},
		{"no limit of storage", "maxPerJob: {ephemeral-storage: 4Gi}", same, "maxPerJob.ephemeral-storage: container main has no limit; set ephemeral-storage in the limits of the job's instance type"},
		{"storage", "maxPerJob: {ephemeral-storage: 4Gi}", stores("2Gi"), ""},
		{"too much storage", "maxPerJob: {ephemeral-storage: 4Gi}", stores("3Gi"), "maxPerJob.ephemeral-storage: 6Gi wanted, 4Gi allowed"},
		{"storage of another container before the command", "maxPerJob: {ephemeral-storage: 4Gi}", func(job *batchv1.Job) {
			stores("2Gi")(job)
			job.Spec.Template.Spec.InitContainers[0].Image = "busybox"
		}, "container code has no limit"},
		{"no huge pages", "maxPerJob: {hugepages-2Mi: 1Gi}", same, ""},
		{"too many huge pages", "maxPerJob: {hugepages-2Mi: 1Gi}", main(func(c *corev1.Container) {
			c.Resources.Limits["hugepages-2Mi"] = resource.MustParse("1Gi")
		}), "maxPerJob.hugepages-2Mi: 2Gi wanted, 1Gi allowed"},
		{"no GPU", "maxPerJob: {nvidia.com/gpu: 0}", same, ""},
		{"GPUs", "maxPerJob: {nvidia.com/gpu: 8}", gpus("4"), ""},
		{"too many GPUs", "maxPerJob: {nvidia.com/gpu: 8}", gpus("8"), "maxPerJob.nvidia.com/gpu: 16 wanted, 8 allowed"},
		{"a claim", "maxPerJob: {nvidia.com/gpu: 8}", pod(func(p *corev1.PodSpec) { p.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpus"}} }), "the resource claim gpus"},
		{"a timeout", "maxPerJob: {timeout: 24h}", lasts("24h"), ""},
		{"too long", "maxPerJob: {timeout: 24h}", lasts("24h0m1s"), "maxPerJob.timeout: 24h0m1s wanted, 24h0m0s allowed"},
		{"no timeout", "maxPerJob: {timeout: 24h}", same, "the job has no limits.timeout, 24h0m0s is the most; set one"},

		{"host network", "{}", pod(func(p *corev1.PodSpec) { p.HostNetwork = true }), "never allowed: hostNetwork"},
		{"host processes", "{}", pod(func(p *corev1.PodSpec) { p.HostPID = true }), "never allowed: hostPID"},
		{"host IPC", "{}", pod(func(p *corev1.PodSpec) { p.HostIPC = true }), "never allowed: hostIPC"},
		{"a node", "{}", pod(func(p *corev1.PodSpec) { p.NodeName = "n1" }), "never allowed: nodeName n1"},
		{"the cluster's own priority", "{}", pod(func(p *corev1.PodSpec) { p.PriorityClassName = "system-node-critical" }), "never allowed: priority class system-node-critical"},
		{"another priority", "{}", pod(func(p *corev1.PodSpec) { p.PriorityClassName = "training" }), ""},
		{"every taint", "{}", pod(func(p *corev1.PodSpec) { p.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }), "never allowed: a toleration of every taint"},
		{"the control plane", "{}", pod(func(p *corev1.PodSpec) {
			p.Tolerations = []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists}}
		}), "never allowed: a toleration of node-role.kubernetes.io/control-plane"},
		{"a pool's taint", "{}", pod(func(p *corev1.PodSpec) { p.Tolerations = []corev1.Toleration{{Key: "sku", Value: "gpu"}} }), ""},
		{"SELinux in the pod", "{}", pod(func(p *corev1.PodSpec) { p.SecurityContext.SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t"} }), "never allowed: SELinux options"},
		{"SELinux", "{}", secured(func(s *corev1.SecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t"} }), "container main: SELinux options"},
		{"host port", "{}", main(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{HostPort: 80}} }), "container main: hostPort 80"},
		{"host path", "{}", mounts(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}), "volume v: HostPath"},
		{"a volume of a driver", "{}", mounts(corev1.VolumeSource{CSI: new(corev1.CSIVolumeSource)}), "volume v: CSI"},
		{"an image as a volume", "{}", mounts(corev1.VolumeSource{Image: new(corev1.ImageVolumeSource)}), "volume v: Image"},
		{"a claimed volume", "{}", mounts(corev1.VolumeSource{PersistentVolumeClaim: new(corev1.PersistentVolumeClaimVolumeSource)}), ""},
		{"a Secret", "{}", mounts(corev1.VolumeSource{Secret: new(corev1.SecretVolumeSource)}), ""},
		{"a projected token", "{}", mounts(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
		}}}), "volume v: projected tokens"},
		{"a device", "{}", main(func(c *corev1.Container) { c.VolumeDevices = []corev1.VolumeDevice{{Name: "sda"}} }), "block device sda"},
		{"a service account", "{}", pod(func(p *corev1.PodSpec) { p.ServiceAccountName = "admin" }), "service account admin"},
		{"the account's token", "{}", pod(func(p *corev1.PodSpec) { p.AutomountServiceAccountToken = nil }), "a service account token"},
		{"a sysctl", "{}", pod(func(p *corev1.PodSpec) { p.SecurityContext.Sysctls = []corev1.Sysctl{{Name: "kernel.shm"}} }), "sysctl kernel.shm"},
		{"privileged", "{}", secured(func(s *corev1.SecurityContext) { s.Privileged = ptr.To(true) }), "container main: privileged"},
		{"privileged before the command", "{}", pod(func(p *corev1.PodSpec) { p.InitContainers[0].SecurityContext.Privileged = ptr.To(true) }), "container code: privileged"},
		{"escalation", "{}", secured(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = ptr.To(true) }), "allowPrivilegeEscalation"},
		{"escalation by default", "{}", secured(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = nil }), "allowPrivilegeEscalation"},
		{"no security context", "{}", main(func(c *corev1.Container) { c.SecurityContext = nil }), "allowPrivilegeEscalation"},
		{"a capability", "{}", secured(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"NET_RAW"} }), "added capability NET_RAW"},
		{"bare /proc", "{}", secured(func(s *corev1.SecurityContext) { s.ProcMount = ptr.To(corev1.UnmaskedProcMount) }), "procMount Unmasked"},
		{"no AppArmor", "{}", secured(func(s *corev1.SecurityContext) {
			s.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		}), "AppArmor"},
		{"no seccomp", "{}", secured(func(s *corev1.SecurityContext) {
			s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
		}), "seccomp"},
		{"no seccomp in the pod", "{}", pod(func(p *corev1.PodSpec) { p.SecurityContext = nil }), "seccomp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Parse([]byte(tc.policy), options)
			if err != nil {
				t.Fatal(err)
			}
			job := plain()
			tc.change(job)
			err = p.Judge(job)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "policy: ") || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want policy: … %s", err, tc.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for src, want := range map[string]string{
		"":                                     "is empty; a policy without rules is {}",
		"# nothing\n":                          "is empty",
		"---\n":                                "is empty",
		"images: [a.example/*]\nimage: [b]":    "line 2: image: unknown key",
		"images: [a.example/*]\nimages: [b/*]": "line 2: not YAML: mapping key \"images\" already defined",
		"images:":                              "line 1: images: has no value, not a list",
		"images: []":                           "line 1: images: is empty; name what is allowed",
		"images: a.example/*":                  "line 1: images: is a YAML string, not a list",
		"\nimages:\n- 7":                       "line 2: images: is a YAML integer in line 3, not a string",
		"images: ['python:*']":                 `line 1: images: "python:*" matches no image`,
		"images: ['library/python:*']":         `"library/python:*" matches no image`,
		"images: ['a.example/[']":              "is not a pattern",
		"namespaces: [Train]":                  `namespaces: "Train" is not a namespace's name`,
		"maxPerJob: 3":                         "line 1: maxPerJob: line 1: is a YAML integer, not a mapping",
		"maxPerJob:\n  cpu: lots":              `line 2: maxPerJob.cpu: "lots" is not a quantity`,
		"maxPerJob:\n  cpu: -1":                `"-1" is not a quantity`,
		"maxPerJob:\n  cpu:":                   "line 2: maxPerJob.cpu: has no value",
		"maxPerJob:\n  cpu: [1]":               "line 2: maxPerJob.cpu: is a YAML sequence",
		"maxPerJob: {memroy: 1Gi}":             "line 1: maxPerJob.memroy: unknown resource",
		"maxPerJob: {cpu: 1, cpu: 2}":          "already defined",
		"maxPerJob: {instances: 0}":            "is not a number from 1 up",
		"maxPerJob: {timeout: 24}":             "is not a time from 1s up",
		"{}\n---\n{}":                          "line 3: a second document",
		"- a":                                  "line 1: is a YAML sequence, not a mapping",
		"a: b: c":                              "line 1: not YAML",
		"a: &a [*a]":                           "unknown key",
		"[[[[[[[[[[]]]]]]]]]]":                 "nested too deep",
		strings.Repeat("#", MaxSize+1):         "more than 32768 bytes",
	} {
		if p, err := Parse([]byte(src), options); err == nil || p != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", src, err, want)
		}
	}
}

// TestFile: what is in the file counts, at each Job anew.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	f, err := NewFile(path, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ text, refusal, broken string }{
		{"", "", "no such file"},
		{"{}", "", ""},
		{"namespaces: [vision]", "namespaces: train is none of vision", ""},
		{"namespaces: [vision", "", "policy.yaml: line 1: not YAML"},
		{"namespaces: [train]", "", ""},
	} {
		if step.text != "" {
			if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		refusal, err := f.Judge(plain())
		for _, got := range []struct {
			err  error
			want string
		}{{refusal, step.refusal}, {err, step.broken}, {f.Usable(), step.broken}} {
			if (got.err != nil) != (got.want != "") || got.err != nil && !strings.Contains(got.err.Error(), got.want) {
				t.Errorf("%q: got %v, want %q", step.text, got.err, got.want)
			}
		}
	}
}

func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{
		"{}", "images: ['docker.io/library/python:3.*', '**']\nnamespaces: [train]\nmaxPerJob: {instances: 4, nvidia.com/gpu: 8, timeout: 24h}\n",
		"maxPerJob:\n  cpu: 1e30\n", "images:\n- &a a.example/{b,c}/[a-z]\n- *a\n", "? ? a\n: b", "a: |\n  b\n", "- - - - - -", "images: [!!str a/b]", "\"\\u0000\": 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse(src, options)
		if err != nil {
			return
		}
		if err := p.Judge(plain()); err != nil && !strings.HasPrefix(err.Error(), "policy: ") {
			t.Errorf("refused by no rule: %v", err)
		}
		bad := plain()
		bad.Spec.Template.Spec.HostNetwork = true
		if p.Judge(bad) == nil {
			t.Error("a policy allows the node's network")
		}
	})
}

// Package policy holds what the cluster's admin lets jobs be: a file in the
// cluster that nothing which the relay sends can change or get around. It
// judges the finished batch/v1 Job, right before it would be created, so
// whatever makes Jobs is held to it.
//
// # What a policy says
//
//	images: [registry.example.com/train/**, docker.io/library/python:3.*]
//	namespaces: [train]
//	maxPerJob: {instances: 4, cpu: 32, memory: 128Gi, nvidia.com/gpu: 8, timeout: 24h}
//
// Each key may be left out, and then does not limit. Images are globs on full
// references, as docker.io/library/python:3.12: * stays within a part of the
// path, ** goes across parts. A reference with a digest has no tag here, since
// none counts beside it: docker.io/library/python@sha256:* allows those.
// Ceilings hold for all instances of a job together. See [Parse].
//
// What is never allowed needs no key and cannot be switched on: privileged
// containers, the node's files, network, processes or ports, added
// capabilities, gaining privileges, another service account, a token of one,
// SELinux options, naming the node, tolerations of the control plane or of every
// taint, the priority classes system-*, and running without seccomp.
//
// # When things fail
//
// The file is read anew for each Job. A file that is missing, unreadable or not
// a policy allows nothing, and [File.Usable] says why for as long as that lasts.
// A Job that exists is never judged again.
package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/distribution/reference"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// Policy is a parsed policy. Make one with [Parse].
type Policy struct {
	o Options

	images     []string // patterns; empty for all images
	namespaces []string // empty for all that the agent has
	instances  int64    // 0 for no limit
	timeout    time.Duration
	ceilings   map[corev1.ResourceName]resource.Quantity
}

// Options are what a policy has to know of Jobs.
type Options struct {
	// LaunchImage is the agent's own image. Init containers may have it,
	// whatever the patterns say.
	LaunchImage string
	// Timeout is the bound on a Job's running time; 0 for none.
	Timeout func(*batchv1.Job) time.Duration
}

// Judge says by which rule the Job must not be created; nil where it may.
func (p *Policy) Judge(job *batchv1.Job) error {
	pod := &job.Spec.Template.Spec
	for _, rule := range []func() error{
		func() error { return p.namespace(job.Namespace) },
		func() error { return confined(pod) },
		func() error { return p.allImages(pod) },
		func() error { return p.size(job) },
	} {
		if err := rule(); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	return nil
}

// Place says why no Job may be created in the namespace; nil where Jobs may.
func (p *Policy) Place(namespace string) error {
	if err := p.namespace(namespace); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}

func (p *Policy) namespace(name string) error {
	if len(p.namespaces) > 0 && !slices.Contains(p.namespaces, name) {
		return fmt.Errorf("namespaces: %s is none of %s", name, list(p.namespaces))
	}
	return nil
}

func (p *Policy) allImages(pod *corev1.PodSpec) error {
	for _, c := range pod.InitContainers {
		if c.Image == p.o.LaunchImage && c.Image != "" {
			continue
		}
		if err := p.image(c.Image); err != nil {
			return err
		}
	}
	for _, c := range pod.Containers {
		if err := p.image(c.Image); err != nil {
			return err
		}
	}
	return nil
}

// image judges a reference in full, so that no shorter way to write it gets
// around a pattern. Of one with a digest the tag is left out, as runtimes leave
// it out: a pattern for tags says nothing of what a digest stands for.
func (p *Policy) image(image string) error {
	if len(p.images) == 0 {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("images: %q is not a reference: %w", image, err)
	}
	if algorithm := path.Base(named.Name()); slices.Contains(algorithms, algorithm) {
		return fmt.Errorf("images: %s is named like a digest, and could stand for any image that a node has", image)
	}
	full := reference.TagNameOnly(named).String()
	if digested, ok := named.(reference.Digested); ok {
		full = named.Name() + "@" + digested.Digest().String()
	}
	for _, pattern := range p.images {
		if doublestar.MatchUnvalidated(pattern, full) {
			return nil
		}
	}
	return fmt.Errorf("images: %s matches none of %s", full, list(p.images))
}

// algorithms are those of digests. A runtime takes sha256:HEX for the id of an
// image, whatever it would be as a reference.
var algorithms = []string{"sha256", "sha384", "sha512"}

// size judges what the job takes, of all instances together.
func (p *Policy) size(job *batchv1.Job) error {
	instances := int64(max(ptr.Deref(job.Spec.Completions, 1), ptr.Deref(job.Spec.Parallelism, 1)))
	if p.instances > 0 && instances > p.instances {
		return fmt.Errorf("maxPerJob.instances: %d wanted, %d allowed", instances, p.instances)
	}
	if p.timeout > 0 {
		switch timeout := p.o.Timeout(job); {
		case timeout == 0:
			return fmt.Errorf("maxPerJob.timeout: the job has no limits.timeout, %s is the most; set one", p.timeout)
		case timeout > p.timeout:
			return fmt.Errorf("maxPerJob.timeout: %s wanted, %s allowed", timeout, p.timeout)
		}
	}
	if claims := job.Spec.Template.Spec.ResourceClaims; len(claims) > 0 && len(p.ceilings) > 0 {
		return fmt.Errorf("maxPerJob: what the resource claim %s takes cannot be counted", claims[0].Name)
	}
	for _, name := range sorted(p.ceilings) {
		wanted, err := p.ofPod(&job.Spec.Template.Spec, name)
		if err != nil {
			return fmt.Errorf("maxPerJob.%s: %w", name, err)
		}
		if !wanted.Mul(instances) {
			return fmt.Errorf("maxPerJob.%s: what %d instances want is beyond counting", name, instances)
		}
		if allowed := p.ceilings[name]; wanted.Cmp(allowed) > 0 {
			return fmt.Errorf("maxPerJob.%s: %s wanted, %s allowed", name, &wanted, &allowed)
		}
	}
	return nil
}

// list shows some of the words.
func list(words []string) string {
	const most = 8
	if len(words) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
	}
	return strings.Join(words, ", ")
}

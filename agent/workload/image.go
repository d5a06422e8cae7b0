package workload

import "github.com/distribution/reference"

// fullImage is the reference in full that a job's image stands for, so that
// the policy and the runtime read the same: a runtime may take what is short
// for the id of an image that the node has, or look for it in registries of
// its own, and ignores a tag beside a digest. What is no reference stays as it
// is, and the kubelet says so.
func fullImage(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	if digested, ok := named.(reference.Digested); ok {
		return named.Name() + "@" + digested.Digest().String()
	}
	return reference.TagNameOnly(named).String()
}

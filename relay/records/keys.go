package records

import (
	"strings"
)

// Keys of a job: "NAME.status", and "NAME.spec.DIGEST". The digest in the key
// makes writing the specification harmless: whatever the status says, the
// specification that it names is the one that was accepted.
const (
	statusSuffix = ".status"
	specInfix    = ".spec."
)

func statusKey(name string) string { return name + statusSuffix }

func specKey(name, digest string) string {
	return name + specInfix + strings.TrimPrefix(digest, "sha256:")
}

// nameOf is the job of a status key. Names contain no dots.
func nameOf(key string) (name string, ok bool) {
	return strings.CutSuffix(key, statusSuffix)
}

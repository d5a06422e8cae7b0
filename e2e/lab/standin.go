package lab

import (
	"testing"

	"github.com/trainrelay/trainrelay/e2e/cluster"
)

// StandIn gives the node images of these names that do nothing and run, for
// ones that cannot be had here.
func (l *Lab) StandIn(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := l.cluster.NodeExec(t.Context(), 1, l.prog("ctr"), "--namespace=k8s.io", "images", "tag", "--force", cluster.PauseImage, name)
		if err != nil {
			t.Fatal(err)
		}
	}
}

package apiserver

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/protocol"
)

// refusals counts what the API server forbade under a path.
type refusals struct {
	path  string
	count atomic.Int32
	next  http.RoundTripper
}

func (r *refusals) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusForbidden && strings.HasPrefix(req.URL.Path, r.path) {
		r.count.Add(1)
	}
	return resp, err
}

// TestNamespaceTakenAway: an attempt whose namespace was taken out of the
// agent's runs on there, and so does not end, whatever is asked; given back,
// it is canceled as it should be.
func TestNamespaceTakenAway(t *testing.T) {
	kept, taken := newNamespace(t, nil), newNamespace(t, nil)
	compute := protocol.Compute{Name: "onprem", Namespace: taken}
	r := newRoom(t, []string{kept, taken})
	canceled, missed := r.grant(unstarted("canceled"), taken), r.grant(unstarted("missed"), taken)
	for _, ref := range []protocol.Ref{canceled, missed} {
		runs(t, schedule(t, taken, ref)[0])
		r.await(ref, protocol.Running, "")
	}
	r.stop()
	if err := site.Client().RbacV1().RoleBindings(taken).Delete(t.Context(), agentUser, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	refused := &refusals{path: "/apis/batch/v1/namespaces/" + taken + "/jobs/"}
	r = newRoom(t, []string{kept}, through(t, func(config *rest.Config) {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { refused.next = next; return refused })
	}))
	r.Cancel(t.Context(), cancelOf(canceled), compute)
	r.Resolve(t.Context(), protocol.Missing{Ref: missed}, compute)
	r.until("asked for both, and asked again", func() bool { return refused.count.Load() > 4 })
	r.stop()
	if story := r.story(); len(story) > 0 {
		t.Fatalf("it told %s of what it cannot see", story)
	}

	if _, err := site.Client().RbacV1().RoleBindings(taken).Create(t.Context(), roleBinding(taken), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r = newRoom(t, []string{kept, taken})
	r.Resolve(t.Context(), protocol.Missing{Ref: missed}, compute)
	r.await(missed, protocol.Running, "")
	r.Cancel(t.Context(), cancelOf(canceled), compute)
	r.await(canceled, protocol.Finalizing, protocol.UserCanceled)
}

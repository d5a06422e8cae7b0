package cluster

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// serve lets a session ask an API server that answers by path: with a status
// code, or with an object. All else does not exist.
func serve(t *testing.T, s *session, answers map[string]any) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := answers[r.URL.Path]
		if !ok {
			answer = http.StatusNotFound
		}
		if code, refused := answer.(int); refused {
			w.WriteHeader(code)
			answer = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code),
				Reason: map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusNotFound: metav1.StatusReasonNotFound}[code]}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.o.Client = client
}

// TestAskWhereTheNamespaceWasTaken: a Job in a namespace that the agent was
// once set up for is not gone because it cannot be seen any more.
func TestAskWhereTheNamespaceWasTaken(t *testing.T) {
	job := made(&protocol.Start{Attempt: 1, Job: protocol.Job{Name: "iris", Compute: "onprem", Instances: 1}}, "old")
	job.TypeMeta = metav1.TypeMeta{Kind: "Job", APIVersion: "batch/v1"}
	namespace := metav1.ObjectMeta{Name: "old"}
	for _, tc := range []struct {
		name      string
		job       any
		namespace any
		want      string // of the error; empty where the Job is known to be gone
	}{
		{"may not be used", http.StatusForbidden, namespace, "look for Job"},
		{"does not exist", http.StatusForbidden, http.StatusNotFound, ""},
		{"nobody knows whether it exists", http.StatusForbidden, http.StatusForbidden, "look for Job"},
		{"has no such Job", http.StatusNotFound, namespace, ""},
		{"has the Job", job, namespace, "taken from the agent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := idle(t)
			serve(t, s, map[string]any{
				"/apis/batch/v1/namespaces/old/jobs/" + workload.Name(iris): tc.job,
				"/api/v1/namespaces/old":                                    tc.namespace,
			})
			for _, a := range []attempt{
				{cancel: &protocol.Cancel{Ref: iris}, namespace: "old"},
				{missing: &protocol.Missing{Ref: iris}, namespace: "old"},
			} {
				job, _, err := s.locate(t.Context(), iris, a)
				switch {
				case job != nil:
					t.Errorf("found %s in namespace %s, which has no view", job.Name, job.Namespace)
				case tc.want == "" && err != nil:
					t.Error(err)
				case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
					t.Errorf("%v does not say %q", err, tc.want)
				}
			}
		})
	}
}

// TestNotFoundOfACreate: it ends the attempt only where the namespace is what
// does not exist.
func TestNotFoundOfACreate(t *testing.T) {
	for _, tc := range []struct {
		name      string
		namespace any
		ends      bool
	}{
		{"namespace exists", metav1.ObjectMeta{Name: "train"}, false},
		{"namespace cannot be seen", http.StatusForbidden, false},
		{"namespace is missing", http.StatusNotFound, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, observed := idle(t)
			serve(t, s, map[string]any{"/api/v1/namespaces/train": tc.namespace})
			a := attempt{start: granted(time.Minute)}
			s.attempts[iris] = &a
			err := s.failed(t.Context(), iris, a, apierrors.NewNotFound(batchv1.Resource("jobs"), "iris"))
			if ended := len(*observed) == 1 && (*observed)[0].Reason.Code == protocol.NamespaceMissing; ended != tc.ends || tc.ends != (err == nil) {
				t.Errorf("observed %v, error %v", *observed, err)
			}
		})
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestPermanent(t *testing.T) {
	jobs := schema.GroupResource{Group: "batch", Resource: "jobs"}
	forbidden := func(words string) error { return apierrors.NewForbidden(jobs, "tr-1", errors.New(words)) }
	terminating := apierrors.NewForbidden(jobs, "tr-1", errors.New("unable to create new content in namespace train because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, tc := range []struct {
		name string
		err  error
		want protocol.ReasonCode
	}{
		{"invalid", apierrors.NewInvalid(batchv1.SchemeGroupVersion.WithKind("Job").GroupKind(), "tr-1", nil), protocol.APIRefused},
		{"bad request", apierrors.NewBadRequest("no"), protocol.APIRefused},
		{"too large", apierrors.NewRequestEntityTooLargeError("no"), protocol.APIRefused},
		{"policy", forbidden(`ValidatingAdmissionPolicy "images" denied request: no`), protocol.APIRefused},
		{"no Role", forbidden(`User "agent" cannot create resource "jobs" in API group "batch" in the namespace "train"`), protocol.NotPermitted},
		{"namespace ends", terminating, protocol.NamespaceMissing},
		{"namespace missing", apierrors.NewNotFound(corev1.Resource("namespaces"), "train"), protocol.NamespaceMissing},
		{"quota of Jobs", forbidden("exceeded quota: train, requested: count/jobs.batch=1"), ""},
		{"token expired", apierrors.NewUnauthorized("expired"), ""},
		{"conflict", apierrors.NewConflict(jobs, "tr-1", errors.New("changed")), ""},
		{"webhook away", apierrors.NewInternalError(errors.New("failed calling webhook")), ""},
		{"overloaded", apierrors.NewTooManyRequests("later", 1), ""},
		{"starting", apierrors.NewServiceUnavailable("starting"), ""},
		{"no answer", context.DeadlineExceeded, ""},
	} {
		if got := permanent(fmt.Errorf("create Job: %w", tc.err)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got, want := words(fmt.Errorf("create Job: %w", apierrors.NewBadRequest("no"))), "no"; got != want {
		t.Errorf("words %q, want %q", got, want)
	}
}

func TestSooner(t *testing.T) {
	for _, tc := range [][3]time.Duration{{0, 0, 0}, {0, 2, 2}, {2, 0, 2}, {2, 3, 2}, {3, 2, 2}} {
		if got := sooner(tc[0], tc[1]); got != tc[2] {
			t.Errorf("sooner(%d, %d) = %d, want %d", tc[0], tc[1], got, tc[2])
		}
	}
}

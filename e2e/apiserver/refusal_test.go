package apiserver

import (
	"context"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestQuotaAndPodSecurityReasons: both accept the Job and refuse its pods. A
// quota may come free, so the attempt waits and says why; Pod Security will
// not change its mind, so the attempt ends.
func TestQuotaAndPodSecurityReasons(t *testing.T) {
	t.Run("quota", func(t *testing.T) {
		namespace := newNamespace(t, nil)
		quotas := site.Client().CoreV1().ResourceQuotas(namespace)
		hard := corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("10m")}
		_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: "train"}, Spec: corev1.ResourceQuotaSpec{Hard: hard},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "quota", func(ctx context.Context) (bool, error) {
			quota, err := quotas.Get(ctx, "train", metav1.GetOptions{})
			return err == nil && len(quota.Status.Hard) > 0, err
		})
		r := newRoom(t, []string{namespace})
		ref := r.grant(unstarted("quota"), namespace)
		if e := r.await(ref, protocol.Queued, protocol.QuotaExceeded); !strings.Contains(e.Reason.Message, "exceeded quota: train, requested: requests.cpu=1") {
			t.Errorf("reason is %s", e.Reason)
		}
		if err := quotas.Delete(t.Context(), "train", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		schedule(t, namespace, ref)
		r.await(ref, protocol.Preparing, "")
	})
	t.Run("pod security", func(t *testing.T) {
		namespace := newNamespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
		r := newRoom(t, []string{namespace})
		ref := r.grant(unstarted("restricted"), namespace)
		if e := r.await(ref, protocol.Failed, protocol.PodRefused); !strings.Contains(e.Reason.Message, "runAsNonRoot != true") || e.Retry {
			t.Errorf("end is %+v, %s", e, e.Reason)
		}
		r.until("not held any more", func() bool { return !r.holds(ref) })
		r.oneEnd(ref)
	})
}

func TestNamespaces(t *testing.T) {
	good, closed, foreign := newNamespace(t, nil), bareNamespace(t, nil), bareNamespace(t, nil)
	r := newRoom(t, []string{good, closed, "nowhere"})
	for _, tc := range []struct {
		namespace string
		code      protocol.ReasonCode
		words     string
	}{
		{"nowhere", protocol.NamespaceMissing, "namespace nowhere does not exist"},
		{"nowhere-else", protocol.NamespaceMissing, "namespace nowhere-else does not exist"},
		{closed, protocol.NotPermitted, `cannot list resource`},
		{foreign, protocol.NotPermitted, "the agent is not set up for namespace " + foreign},
	} {
		ref := r.grant(unstarted("in-"+tc.namespace), tc.namespace)
		if e := r.await(ref, protocol.Failed, tc.code); !strings.Contains(e.Reason.Message, tc.words) {
			t.Errorf("%s: reason is %s", tc.namespace, e.Reason)
		}
		r.oneEnd(ref)
	}
	r.await(r.grant(unstarted("good"), good), protocol.Queued, protocol.Unschedulable)

	// Once it may, it does.
	permit(t, closed)
	later := unstarted("later")
	r.until("the namespace to be read", func() bool {
		later.Attempt++
		return r.awaitAny(r.grant(later, closed)).State == protocol.Queued || later.Attempt == protocol.MaxAttempts
	})
}

// TestAPIRefuses: an admission policy's words reach the user.
func TestAPIRefuses(t *testing.T) {
	namespace := newNamespace(t, nil)
	policies := site.Client().AdmissionregistrationV1()
	_, err := policies.ValidatingAdmissionPolicies().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{"batch"}, APIVersions: []string{"v1"}, Resources: []string{"jobs"}},
				}}},
			},
			Validations: []admissionv1.Validation{{Expression: "false", Message: "no Jobs on Sundays"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start := unstarted("sunday")
	eventually(t, "policy", func(ctx context.Context) (bool, error) {
		_, err := site.Client().BatchV1().Jobs(namespace).Create(ctx, plainJob(&start, namespace), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "Sundays"), nil
	})
	r := newRoom(t, []string{namespace})
	ref := r.grant(start, namespace)
	if e := r.await(ref, protocol.Failed, protocol.APIRefused); !strings.Contains(e.Reason.Message, "no Jobs on Sundays") {
		t.Errorf("reason is %s", e.Reason)
	}
	r.oneEnd(ref)
}

// TestQuotaOfJobs: the API server refuses the Job itself, for now. Nothing is
// said of it, its grant runs out, and a later grant succeeds.
func TestQuotaOfJobs(t *testing.T) {
	namespace := newNamespace(t, nil)
	quotas := site.Client().CoreV1().ResourceQuotas(namespace)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "jobs"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t, []string{namespace})
	start := unstarted("counted")
	eventually(t, "quota", func(ctx context.Context) (bool, error) {
		_, err := site.Client().BatchV1().Jobs(namespace).Create(ctx, plainJob(&start, namespace), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "exceeded quota"), nil
	})
	ref := r.briefGrant(start, namespace)
	if !r.holds(ref) {
		t.Error("not held while it is tried")
	}
	r.until("the grant to run out", func() bool { return !r.holds(ref) })
	if err := quotas.Delete(t.Context(), "jobs", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if story := r.story(); len(story) > 0 {
		t.Errorf("observed %s", story)
	}
	r.until("a Job", func() bool {
		if !r.holds(ref) {
			r.briefGrant(start, namespace)
		}
		return jobOf(t, namespace, ref) != nil
	})
	r.awaitAny(ref)
}

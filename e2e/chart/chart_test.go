package chart

import (
	"maps"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/trainrelay/trainrelay/agent/workload"
)

// minimal are the values that have no default.
const minimal = "relay.url=https://relay.example.com:8443,cluster.name=onprem-1,computeNamespaces={train}"

// values parses what users write behind --set.
func values(t *testing.T, sets ...string) map[string]any {
	t.Helper()
	all := make(map[string]any)
	for _, set := range sets {
		if err := strvals.ParseInto(set, all); err != nil {
			t.Fatalf("--set %s: %v", set, err)
		}
	}
	return all
}

// objects renders the chart and decodes what it gave, strictly: a field that
// Kubernetes does not know fails the test.
func objects(t *testing.T, sets ...string) []runtime.Object {
	t.Helper()
	return decoded(t, values(t, sets...))
}

func decoded(t *testing.T, values map[string]any) []runtime.Object {
	t.Helper()
	manifests, err := Render(values)
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	for text := range strings.SplitSeq(strings.TrimPrefix(string(manifests), "---\n"), "\n---\n") {
		object, _, err := decoder.Decode([]byte(text), nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = append(all, object)
	}
	return all
}

// find returns the only object of its kind.
func find[T runtime.Object](t *testing.T, all []runtime.Object) T {
	t.Helper()
	var found []T
	for _, object := range all {
		if object, ok := object.(T); ok {
			found = append(found, object)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

// named returns the object of its type with the name.
func named[T interface {
	runtime.Object
	GetName() string
}](all []runtime.Object, name string) (found T, ok bool) {
	for _, object := range all {
		if object, is := object.(T); is && object.GetName() == name {
			return object, true
		}
	}
	return found, false
}

// TestRefusedValues: a wrong value is refused with words that name it.
func TestRefusedValues(t *testing.T) {
	for _, tc := range []struct{ set, want string }{
		{"relay.url=", "relay.url is not set"},
		{"cluster.name=", "cluster.name is not set"},
		{"computeNamespaces=null", "computeNamespaces is empty"},
		{"relay.url=http://relay.example.com", "'/relay/url'"},
		{"relay.url=https://user:secret@relay.example.com", "'/relay/url'"},
		{"relay.url=https://relay.example.com/nats", "'/relay/url'"},
		{"relay.uri=https://relay.example.com", "'uri' not allowed"},
		{"relay.caBundle=relay.crt", "'/relay/caBundle'"},
		{"cluster.name=On Prem", "'/cluster/name'"},
		{"computeNamespaces={azureml}", "'/computeNamespaces/0'"},
		{"computeNamespaces={train,train}", "items at 0 and 1 are equal"},
		{"computeNamespaces=train", "want array"},
		{"join.token=trj_short", "'/join/token'"},
		{"proxy.https=ftp://proxy.example.com:3128", "'/proxy/https'"},
		{"proxy.https=http://proxy.example.com:3128/path", "'/proxy/https'"},
		{"proxy.caBundle=-----BEGIN CERTIFICATE-----", "proxy.caBundle is set, but no proxy is"},
		{"proxy.https=http://proxy:3128,proxy.existingSecret.name=proxy", "keep one of them"},
		{"proxy.noProxy=10.0.0.0/8", "but no proxy is"},
		{"image.digest=sha256:12", "'/image/digest'"},
		{"image.repository=UPPER CASE", "'/image/repository'"},
		{"imagePullSecrets={registry}", "want object"},
		{"logLevel=verbose", "'/logLevel'"},
		{"gateway.port=80", "'/gateway/port'"},
		{"gateway.port=8081", "choose two ports"},
		{"tolerations[0].operator=Sometimes", "'/tolerations/0/operator'"},
		{"toleration=x", "'toleration' not allowed"},
	} {
		t.Run(tc.set, func(t *testing.T) {
			_, err := Render(values(t, minimal, tc.set))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want an error with %q, got %v", tc.want, err)
			}
		})
	}
}

// TestRestrictedProfile judges the agent's pods, and that of helm test, with the
// code by which an API server enforces Pod Security.
func TestRestrictedProfile(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	daemon, check := find[*appsv1.DaemonSet](t, objects(t, minimal)).Spec.Template, checkPod(t, minimal)
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for _, pod := range []corev1.PodTemplateSpec{daemon, {ObjectMeta: check.ObjectMeta, Spec: check.Spec}} {
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if !*pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
			t.Error("the root file system is writable")
		}
	}
	namespace := find[*corev1.Namespace](t, objects(t, minimal, "namespace.create=true"))
	if got := namespace.Labels[psa.EnforceLevelLabel]; got != string(psa.LevelRestricted) {
		t.Errorf("the namespace enforces %q", got)
	}
}

// TestProxyPassword: a proxy's password is in a Secret and nowhere else, and
// the agent cannot start without it.
func TestProxyPassword(t *testing.T) {
	for name, tc := range map[string]struct{ set, secret, key string }{
		"of the chart": {"proxy.https=http://user:hunter2@proxy:3128", "trainrelay-agent-proxy", "https-proxy"},
		"of the site":  {"proxy.existingSecret.name=site-proxy,proxy.existingSecret.httpsKey=url", "site-proxy", "url"},
	} {
		t.Run(name, func(t *testing.T) {
			all := objects(t, minimal, tc.set+",proxy.noProxy=10.0.0.0/8")
			environment := make(map[string]corev1.EnvVar)
			for _, variable := range find[*appsv1.DaemonSet](t, all).Spec.Template.Spec.Containers[0].Env {
				environment[variable.Name] = variable
			}
			proxy := environment["HTTPS_PROXY"]
			if proxy.ValueFrom == nil || proxy.ValueFrom.SecretKeyRef == nil {
				t.Fatalf("HTTPS_PROXY is not read from a Secret: %v", proxy)
			}
			if ref := proxy.ValueFrom.SecretKeyRef; ref.Name != tc.secret || ref.Key != tc.key || ref.Optional != nil {
				t.Errorf("HTTPS_PROXY is read from %v", ref)
			}
			if _, ok := environment["HTTP_PROXY"]; ok {
				t.Error("HTTP_PROXY is set without a value for it")
			}
			if got := environment["NO_PROXY"].Value; got != "10.0.0.0/8" {
				t.Errorf("NO_PROXY is %q", got)
			}
			text, err := Render(values(t, minimal, tc.set))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "hunter2") {
				t.Error("the manifests have the password in plain text")
			}
			if secret, ok := named[*corev1.Secret](all, tc.secret); ok && string(secret.Data[tc.key]) != "http://user:hunter2@proxy:3128" {
				t.Errorf("the Secret holds %q", secret.Data[tc.key])
			}
		})
	}
}

// TestSecrets: the agent's Secret is empty, for the agent to fill; the token is
// in one of its own, if there is a token.
func TestSecrets(t *testing.T) {
	token := "trj_" + strings.Repeat("A", 64)
	for _, set := range []string{"", "join.token=" + token} {
		all := objects(t, minimal, set)
		own, ok := named[*corev1.Secret](all, "trainrelay-agent")
		if !ok || len(own.Data)+len(own.StringData) != 0 {
			t.Errorf("the agent's Secret: %v, %v", ok, own)
		}
		join, ok := named[*corev1.Secret](all, "trainrelay-agent-join")
		if ok != (set != "") || ok && string(join.Data["token"]) != token {
			t.Errorf("--set %s: the Secret of the token: %v, %v", set, ok, join)
		}
	}
}

// TestRestarts: pods start again for what they read at their start only.
func TestRestarts(t *testing.T) {
	pod := func(set string) map[string]string {
		return find[*appsv1.DaemonSet](t, objects(t, minimal, set)).Spec.Template.Annotations
	}
	before := pod("")
	for _, set := range []string{
		"join.token=trj_" + strings.Repeat("A", 64), "relay.caBundle=-----BEGIN CERTIFICATE-----", "proxy.https=http://proxy",
	} {
		if maps.Equal(before, pod(set)) {
			t.Errorf("--set %s: pods go on as they are", set)
		}
	}
	if !maps.Equal(before, pod("")) {
		t.Error("pods start again without a change")
	}
	if a, b := pod("proxy.https=http://u:a@proxy"), pod("proxy.https=http://u:b@proxy"); maps.Equal(a, b) {
		t.Error("pods go on with a proxy's old password")
	}
}

// TestNamesOfRanks: the Service that pods of several instances find each other
// by is in each compute namespace, and selects what the agent makes there.
func TestNamesOfRanks(t *testing.T) {
	found := make(map[string]bool)
	for _, object := range objects(t, minimal, "computeNamespaces={train,vision}") {
		service, ok := object.(*corev1.Service)
		if !ok || service.Name != workload.ServiceName {
			continue
		}
		found[service.Namespace] = true
		if service.Spec.ClusterIP != corev1.ClusterIPNone || !service.Spec.PublishNotReadyAddresses ||
			labels.FormatLabels(service.Spec.Selector) != workload.Selector {
			t.Errorf("%+v", service.Spec)
		}
	}
	if want := map[string]bool{"train": true, "vision": true}; !maps.Equal(found, want) {
		t.Errorf("in %v, want %v", found, want)
	}
}

// TestSelectors: the Service and the DaemonSet find the pods, whatever labels
// a user adds to them.
func TestSelectors(t *testing.T) {
	all := objects(t, minimal, `podLabels.team=ml,podLabels.app\.kubernetes\.io/name=mine`)
	daemon := find[*appsv1.DaemonSet](t, all)
	service, _ := named[*corev1.Service](all, "trainrelay-agent")
	labels := daemon.Spec.Template.Labels
	if labels["team"] != "ml" {
		t.Errorf("the pods' labels lack the user's: %v", labels)
	}
	for name, selector := range map[string]map[string]string{"Service": service.Spec.Selector, "DaemonSet": daemon.Spec.Selector.MatchLabels} {
		matching := maps.Clone(labels)
		maps.Copy(matching, selector)
		if len(selector) == 0 || !maps.Equal(matching, labels) {
			t.Errorf("the %s selects %v, the pods have %v", name, selector, labels)
		}
	}
}

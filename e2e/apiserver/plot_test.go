package apiserver

import (
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/trainrelay/trainrelay/agent/check"
	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/e2e/chart"
)

// plot is a place for one agent: a namespace of its own, one for its jobs, and
// what the chart puts there, with an account that has the chart's rights.
type plot struct {
	*testing.T
	home, jobs, gone string       // gone does not exist
	config           *rest.Config // with the account's token
	refused          atomic.Int32 // watches that the API server refused
	denied           sync.Map     // names of the rights that it found missing
	// patience is how long what is to happen may take.
	patience time.Duration
}

// newPlot makes a plot whose account lacks a right, or has all of them, but for
// the optional ones: the sight of all pods would make up for that of some.
func newPlot(t *testing.T, without *check.Right) *plot {
	t.Helper()
	return newPlotWith(t, without, map[string]any{"inventory": map[string]any{"pods": false}})
}

// newPlotWith makes a plot of the chart with further values.
func newPlotWith(t *testing.T, without *check.Right, values map[string]any) *plot {
	t.Helper()
	p := &plot{T: t, home: bareNamespace(t, nil), jobs: bareNamespace(t, nil), gone: "gone-" + strings.ToLower(rand.Text()[:8]), patience: patience}
	for _, object := range renderedWith(values, p.jobs, p.gone) {
		p.install(object, without)
	}
	// A real token: nobody is impersonated.
	token, err := site.Client().CoreV1().ServiceAccounts(p.home).CreateToken(t.Context(), "trainrelay-agent",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600))}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	admin := site.Config()
	p.config = &rest.Config{Host: admin.Host, QPS: 200, Burst: 400, BearerToken: token.Status.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData, CAFile: admin.CAFile}}
	p.config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("sendInitialEvents") != "" {
				return streamsNoLists(r), nil
			}
			answer, err := next.RoundTrip(r)
			if err == nil && answer.StatusCode == http.StatusForbidden {
				p.note(r)
			}
			return answer, err
		})
	})
	return p
}

// note keeps which right the API server wanted for a request.
func (p *plot) note(r *http.Request) {
	api := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	asked, err := api.NewRequestInfo(r)
	if err != nil {
		p.Errorf("%s: %v", r.URL, err)
		return
	}
	right := check.Right{Where: check.Computes, Group: asked.APIGroup, Resource: asked.Resource, Verb: asked.Verb}
	if asked.Subresource != "" {
		right.Resource += "/" + asked.Subresource
	}
	switch {
	case asked.Namespace == "" || asked.Resource == "namespaces":
		right.Where = check.Cluster
	case asked.Namespace == p.gone: // where nothing is allowed
		return
	case asked.Namespace == p.home:
		right.Where = check.Home
		if asked.Resource != "pods" {
			right.Name = asked.Name
		}
	}
	if asked.Verb == "watch" {
		p.refused.Add(1)
	}
	p.denied.Store(rightName(right), nil)
}

// deniedRights are those that were missing.
func (p *plot) deniedRights() (names []string) {
	p.denied.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	return names
}

// streamsNoLists answers as an API server that does not stream lists: one of
// before Kubernetes 1.34, or with that switched off. With one that does, a watch
// alone would do, but the agent has to work with both.
func streamsNoLists(r *http.Request) *http.Response {
	const body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,` +
		`"message":"sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"}`
	return &http.Response{
		StatusCode: http.StatusUnprocessableEntity, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

// install creates an object of the chart's in the plot: what is in azureml goes
// into its home, and what is in no namespace gets a name of its own.
func (p *plot) install(object metav1.Object, without *check.Right) {
	p.Helper()
	if object.GetNamespace() == p.gone {
		return // nothing can be there
	}
	if object.GetNamespace() == chart.Namespace {
		object.SetNamespace(p.home)
	}
	client, ctx, created := site.Client(), p.Context(), metav1.CreateOptions{}
	move := func(subjects []rbacv1.Subject) {
		for i := range subjects {
			subjects[i].Namespace = p.home
		}
	}
	var err error
	switch o := object.(type) {
	case *corev1.ServiceAccount:
		_, err = client.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, created)
	case *corev1.Secret:
		_, err = client.CoreV1().Secrets(o.Namespace).Create(ctx, o, created)
	case *coordinationv1.Lease:
		_, err = client.CoordinationV1().Leases(o.Namespace).Create(ctx, o, created)
	case *rbacv1.Role:
		where := check.Computes
		if o.Namespace == p.home {
			where = check.Home
		}
		o.Rules = lessen(o.Rules, where, without)
		_, err = client.RbacV1().Roles(o.Namespace).Create(ctx, o, created)
	case *rbacv1.RoleBinding:
		move(o.Subjects)
		_, err = client.RbacV1().RoleBindings(o.Namespace).Create(ctx, o, created)
	case *rbacv1.ClusterRole:
		o.Name += "-" + p.home
		o.Rules = lessen(o.Rules, check.Cluster, without)
		_, err = client.RbacV1().ClusterRoles().Create(ctx, o, created)
	case *rbacv1.ClusterRoleBinding:
		o.Name += "-" + p.home
		o.RoleRef.Name = o.Name
		move(o.Subjects)
		_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, o, created)
	}
	if err != nil {
		p.Fatal(err)
	}
}

// lessen takes a right out of rules that hold somewhere.
func lessen(rules []rbacv1.PolicyRule, where check.Where, without *check.Right) []rbacv1.PolicyRule {
	if without == nil || without.Where != where {
		return rules
	}
	var kept []rbacv1.PolicyRule
	for _, rule := range rules {
		if slices.Contains(rule.Resources, without.Resource) {
			rule.Verbs = slices.DeleteFunc(rule.Verbs, func(verb string) bool { return verb == without.Verb })
		}
		if len(rule.Verbs) > 0 {
			kept = append(kept, rule)
		}
	}
	return kept
}

func (p *plot) client() kubernetes.Interface {
	p.Helper()
	client, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		p.Fatal(err)
	}
	return client
}

// room runs the agent's part for the cluster in the plot.
func (p *plot) room() *room {
	p.Helper()
	return newRoom(p.T, []string{p.jobs, p.gone}, func(o *cluster.Options) { o.Client = p.client() })
}

// eventually reports whether something comes to be.
func (p *plot) eventually(is func() bool) bool { return p.within(p.patience, is) }

func (p *plot) within(patience time.Duration, is func() bool) bool {
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// settle waits, where a watch is refused, until what polls in its place has
// slowed down: it would see everything in the end.
func (p *plot) settle(watchless bool) {
	p.Helper()
	if watchless && !p.within(patience, func() bool { return p.refused.Load() >= 5 }) {
		p.Fatal("no watch was refused")
	}
}

package apiserver

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/e2e/chart"
)

// agentUser is whom the agent is for the API server in these tests.
const agentUser = "trainrelay-agent"

var agentSubject = []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: agentUser}}

// rules are those that the chart gives its agent in a namespace; of the whole
// cluster where the namespace is empty.
func rules(namespace string) []rbacv1.PolicyRule {
	for _, object := range rendered("train") {
		switch o := object.(type) {
		case *rbacv1.Role:
			if o.Namespace == namespace {
				return o.Rules
			}
		case *rbacv1.ClusterRole:
			if namespace == "" {
				return o.Rules
			}
		}
	}
	return nil // and the agent can do nothing
}

// rendered are the chart's objects for compute namespaces.
func rendered(computes ...any) []metav1.Object { return renderedWith(nil, computes...) }

// renderedWith are those of the chart with further values.
func renderedWith(values map[string]any, computes ...any) (all []metav1.Object) {
	together := map[string]any{
		"relay": map[string]any{"url": "https://relay.example.com"}, "cluster": map[string]any{"name": "onprem"}, "computeNamespaces": computes,
	}
	maps.Copy(together, values)
	manifests, err := chart.Render(together)
	if err != nil {
		panic(err) // the chart's own tests say more
	}
	for _, text := range strings.Split(string(manifests), "---\n")[1:] {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(text), nil, nil)
		if err != nil {
			panic(fmt.Errorf("%w in\n%s", err, text))
		}
		all = append(all, object.(metav1.Object))
	}
	return all
}

// role has the rights that the agent has in each of its compute namespaces.
func role(namespace string) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: agentUser, Namespace: namespace}, Rules: rules("train")}
}

func roleBinding(namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: agentUser, Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: agentUser},
		Subjects:   agentSubject,
	}
}

// clusterRole is not limited to names, since namespaces are made as tests go.
func clusterRole() *rbacv1.ClusterRole {
	all := rules("")
	for i := range all {
		all[i].ResourceNames = nil
	}
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: agentUser}, Rules: all}
}

func clusterRoleBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: agentUser},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: agentUser},
		Subjects:   agentSubject,
	}
}

// agentConfig is the agent's way to the API server.
func agentConfig() *rest.Config {
	config := site.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: agentUser, Groups: []string{"system:authenticated"}}
	config.QPS, config.Burst = 200, 400
	return config
}

// newNamespace makes a namespace of the test's own, where the agent may work.
func newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	namespace := bareNamespace(t, labels)
	permit(t, namespace)
	return namespace
}

// bareNamespace makes one where it may not.
func bareNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	made, err := site.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Name
}

func permit(t *testing.T, namespace string) {
	t.Helper()
	if _, err := site.Client().RbacV1().Roles(namespace).Create(t.Context(), role(namespace), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := site.Client().RbacV1().RoleBindings(namespace).Create(t.Context(), roleBinding(namespace), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func agentClient(t *testing.T, change ...func(*rest.Config)) kubernetes.Interface {
	t.Helper()
	config := agentConfig()
	for _, c := range change {
		c(config)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

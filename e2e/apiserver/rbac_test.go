package apiserver

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// agentUser is whom the agent is for the API server in these tests.
const agentUser = "trainrelay-agent"

var agentSubject = []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: agentUser}}

// role has the permissions that package agent/cluster asks for in each of its
// namespaces.
func role(namespace string) *rbacv1.Role {
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	return &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: agentUser, Namespace: namespace},
		Rules: []rbacv1.PolicyRule{
			rule("batch", "jobs", "get", "list", "watch", "create", "patch", "delete"),
			rule("", "pods", "list", "watch"),
			rule("", "events", "list", "watch"),
			rule("", "secrets", "create"),
		},
	}
}

func roleBinding(namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: agentUser, Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: agentUser},
		Subjects:   agentSubject,
	}
}

func clusterRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: agentUser},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}},
	}
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

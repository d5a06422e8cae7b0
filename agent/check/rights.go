package check

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Where a right holds.
type Where string

const (
	Home     Where = "azureml"  // the agent's own namespace
	Computes Where = "computes" // each compute namespace
	Cluster  Where = "cluster"  // of no namespace
)

// Right is one thing that the agent may do to the Kubernetes API.
type Right struct {
	Where    Where
	Group    string
	Resource string // with its subresource, as pods/log
	Name     string // the one object's; empty for any
	Verb     string
	Without  string // what does not work without it
}

// String is the right as in "watch jobs".
func (r Right) String() string {
	text := r.Verb + " " + r.Resource
	if r.Name != "" {
		text += " named " + r.Name
	}
	return text
}

// Optional reports whether an admin may withhold the right, by the chart's value
// inventory.pods.
func (r Right) Optional() bool { return r.Where == Cluster && r.Resource == "pods" }

const (
	own = "trainrelay-agent" // the name of the agent's objects
)

// Rights are all that the agent needs, and all that its chart gives it.
func Rights() []Right {
	return []Right{
		{Home, "coordination.k8s.io", "leases", own, "get", "no leader is found, so nothing runs"},
		{Home, "coordination.k8s.io", "leases", own, "update", "no leader is found, so nothing runs"},
		{Home, "", "secrets", own, "get", "the agent does not find the cluster's credentials, and waits"},
		{Home, "", "secrets", own, "update", "the cluster cannot join, and does not keep the relay's new keys"},
		{Home, "", "pods", "", "list", "the leader follows the output of every node, also of those that have an agent of their own"},
		{Home, "", "pods", "", "watch", "the leader does not notice that a node gets or loses its agent"},
		{Home, "apps", "daemonsets", own, "get", "an extension is never Installed"},
		{Home, "apps", "daemonsets", "nvidia-device-plugin-daemonset", "get", "an extension with it is never Installed"},
		{Home, "apps", "daemonsets", "csi-blob-node", "get", "an extension with it is never Installed"},
		{Home, "apps", "deployments", "csi-blob-controller", "get", "an extension with it is never Installed"},
		{Home, "", "events", "", "list", "an extension whose pods Pod Security or a quota refuses does not say so"},

		{Cluster, "", "nodes", "", "list", "nobody is told what the cluster has, nor warned of a job that is too big for it"},
		{Cluster, "", "nodes", "", "watch", "what the relay knows of the nodes grows old"},
		{Cluster, "", "pods", "", "list", "nobody is told what is free, and how many instances would fit now"},
		{Cluster, "", "pods", "", "watch", "what the relay knows of what is free grows old"},
		{Cluster, "amlarc.azureml.com", "instancetypes", "", "list", "the cluster's own instance types are not known"},
		{Cluster, "", "namespaces", "", "get", "a job for a namespace that is gone is told that it is forbidden, not that it is missing"},

		{Computes, "batch", "jobs", "", "get", "a Job that is there already is not adopted, and one that is gone does not end its attempt"},
		{Computes, "batch", "jobs", "", "list", "no work is taken for the namespace"},
		{Computes, "batch", "jobs", "", "watch", "the end of a Job is not noticed"},
		{Computes, "batch", "jobs", "", "create", "no job starts"},
		{Computes, "batch", "jobs", "", "patch", "a job runs past its timeout, and finished Jobs are not removed"},
		{Computes, "batch", "jobs", "", "delete", "a canceled job runs on"},
		{Computes, "", "pods", "", "list", "no work is taken for the namespace"},
		{Computes, "", "pods", "", "watch", "a job that runs is not seen running, and its output not shipped"},
		{Computes, "", "pods/log", "", "get", "there is no output"},
		{Computes, "", "events", "", "list", "no work is taken for the namespace"},
		{Computes, "", "events", "", "watch", "a job whose pods a quota or Pod Security refuses does not say so"},
		{Computes, "", "secrets", "", "create", "a job with code, or with secret values, does not start"},
	}
}

// apiServer asks for its version, as the agent asks: never through the proxy.
func (c *checker) apiServer(ctx context.Context) (string, error) {
	const fix = "the agent reaches the API server directly: look for a network policy, and at the address that Kubernetes gives its pods"
	config := rest.CopyConfig(c.o.Kube)
	config.QPS, config.Burst = 100, 200
	var err error
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return "", &fault{err, settingsFix}
	}
	result := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx)
	switch err := result.Error(); {
	case apierrors.IsUnauthorized(err):
		return "", faulty("is the agent's ServiceAccount still there? Restart the pod for a new token", "the API server does not accept the agent's token: %w", err)
	case err != nil:
		return "", faulty(fix, "the API server %s does not answer: %w", c.o.Kube.Host, err)
	}
	version, err := c.client.Discovery().ServerVersionWithContext(ctx)
	if err != nil {
		return "", faulty(fix, "the API server %s does not tell its version: %w", c.o.Kube.Host, err)
	}
	return fmt.Sprintf("Kubernetes %s at %s", version.GitVersion, c.o.Kube.Host), nil
}

// rights asks the API server for each of the agent's.
func (c *checker) rights(ctx context.Context) (string, error) {
	var missing, withheld []string
	asked := 0
	for _, right := range Rights() {
		for _, namespace := range c.namespaces(right) {
			asked++
			allowed, err := may(ctx, c.client, right, namespace)
			if err != nil {
				return "", faulty("look at the API server's log", "ask whether the agent may %s: %w", right, err)
			}
			lacks := fmt.Sprintf("%s in %s (without it %s)", right, cmp.Or(namespace, "all namespaces"), right.Without)
			switch {
			case allowed:
			case right.Optional():
				withheld = append(withheld, lacks)
			default:
				missing = append(missing, lacks)
			}
		}
	}
	for _, name := range c.o.Computes {
		if _, err := c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return "", faulty("kubectl create namespace "+name+", and upgrade the chart, which puts the agent's Role there",
				"the compute namespace %s does not exist", name)
		}
	}
	if len(missing) > 0 {
		return "", faulty("upgrade the chart, with computeNamespaces as they should be, so that its Roles are whole: `helm get manifest trainrelay-agent --namespace "+c.o.Home+"` has them",
			"%d of %d rights are missing: %s", len(missing), asked, strings.Join(missing, "; "))
	}
	found := fmt.Sprintf("all %d, in %s", asked-len(withheld), strings.Join(append([]string{c.o.Home}, c.o.Computes...), ", "))
	if len(withheld) > 0 {
		found += "; withheld: " + strings.Join(withheld, "; ")
	}
	return found, nil
}

// namespaces are where a right has to be given.
func (c *checker) namespaces(right Right) []string {
	switch {
	case right.Where == Home:
		return []string{c.o.Home}
	case right.Where == Cluster:
		return []string{metav1.NamespaceAll}
	}
	return c.o.Computes
}

// Place says what keeps the agent from working in a compute namespace: that it
// does not exist, or which rights are missing there.
func Place(ctx context.Context, client kubernetes.Interface, namespace string) error {
	if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return fmt.Errorf("namespace %s does not exist; make it: kubectl create namespace %s", namespace, namespace)
	}
	var missing []string
	for _, right := range Rights() {
		if right.Where != Computes {
			continue
		}
		allowed, err := may(ctx, client, right, namespace)
		if err != nil {
			return fmt.Errorf("the API server does not say whether the agent may %s in namespace %s: %w", right, namespace, err)
		}
		if !allowed {
			missing = append(missing, right.String())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the agent may not %s in namespace %s", strings.Join(missing, ", "), namespace)
	}
	return nil
}

// may asks for one right.
func may(ctx context.Context, client kubernetes.Interface, right Right, namespace string) (bool, error) {
	resource, sub, _ := strings.Cut(right.Resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: right.Verb, Group: right.Group, Resource: resource, Subresource: sub, Name: right.Name,
		}}}
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

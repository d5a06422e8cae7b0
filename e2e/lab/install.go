package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/e2e/chart"
	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// startCluster boots Kubernetes with one node.
func (l *Lab) startCluster(ctx context.Context) error {
	var err error
	l.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: l.path("cluster"), Bin: l.opts.bin("cluster"), Nodes: 1, Detach: l.opts.Detach, Log: l.opts.say,
	})
	if err != nil {
		return err
	}
	l.host, l.Client = l.cluster.Host(), l.cluster.Client()
	return nil
}

// installAgent does what the cluster's and the relay's admins do, with the
// commands that they use: add the cluster, install the chart, make a compute.
func (l *Lab) installAgent(ctx context.Context) error {
	l.opts.say("installing the agent from its chart")
	for _, namespace := range []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: agentSpace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: trainSpace}},
	} {
		if _, err := l.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := l.joinCluster(ctx); err != nil {
		return err
	}
	proxy := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "site-proxy", Namespace: agentSpace},
		StringData: map[string]string{"https-proxy": fmt.Sprintf("http://%s:%s@%s:%d", proxyUser, l.proxyPassword, siteProxyIP, proxyPort)},
	}
	if _, err := l.Client.CoreV1().Secrets(agentSpace).Create(ctx, proxy, metav1.CreateOptions{}); err != nil {
		return err
	}
	manifests, err := chart.Render(map[string]any{
		"relay":             map[string]any{"url": fmt.Sprintf("https://%s:%d", relayHost, relayPort)},
		"cluster":           map[string]any{"name": clusterName},
		"computeNamespaces": []any{trainSpace},
		"proxy":             map[string]any{"existingSecret": map[string]any{"name": proxy.Name, "httpKey": ""}},
		"image":             map[string]any{"registry": agentRegistry, "tag": agentTag, "pullPolicy": "Never"},
		"logLevel":          "debug",
	})
	if err != nil {
		return err
	}
	if _, err := l.Kubectl(ctx, manifests, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	l.opts.say("waiting for the agent to reach the relay through the proxy")
	err = waitUntil(ctx, "the cluster is connected", func(ctx context.Context) error {
		shown := l.CLI(ctx, "cluster", "show", "--name", clusterName, "--query", "connectivity_status", "-o", "tsv")
		if status := strings.TrimSpace(shown.Stdout); status != "Connected" {
			return fmt.Errorf("it is %s%s", status, shown.Stderr)
		}
		return nil
	})
	if err != nil {
		pods, _ := l.Kubectl(ctx, nil, "describe", "pods", "-n", agentSpace)
		logs, _ := l.Kubectl(ctx, nil, "logs", "-n", agentSpace, "daemonset/trainrelay-agent", "--tail=30")
		return fmt.Errorf("%w\n%s\n%s", err, pods, logs)
	}
	return l.CLI(ctx, "compute", "create", "--name", computeName, "--cluster", clusterName, "--namespace", trainSpace).err()
}

// joinCluster joins the cluster in the agent's place, and puts the agent's
// credentials into the Secret that the chart reads.
func (l *Lab) joinCluster(ctx context.Context) error {
	connect := l.CLI(ctx, "cluster", "connect", "--name", clusterName, "--query", "join_token", "-o", "tsv")
	if err := connect.err(); err != nil {
		return err
	}
	relay, err := l.account()
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: relay.tls()}
	defer transport.CloseIdleConnections()
	joined, err := testkit.Join(ctx, &http.Client{Transport: transport}, "https://"+l.RelayAddr, connect.Stdout)
	if err != nil {
		return err
	}
	seed, err := joined.Key.Seed()
	if err != nil {
		return err
	}
	credentials := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "trainrelay-agent", Namespace: agentSpace},
		StringData: map[string]string{"nkey-seed": string(seed), "relay-ca.crt": joined.Trust.CA},
	}
	_, err = l.Client.CoreV1().Secrets(agentSpace).Create(ctx, credentials, metav1.CreateOptions{})
	return err
}

// Output is what a run of the CLI wrote, and its exit code.
type Output struct {
	Args           []string
	Stdout, Stderr string
	Code           int
}

func (o Output) err() error {
	if o.Code == 0 {
		return nil
	}
	return fmt.Errorf("trainrelay %s: exit code %d: %s", strings.Join(o.Args, " "), o.Code, o.Stderr)
}

// CLI runs the trainrelay command against the lab's relay.
func (l *Lab) CLI(ctx context.Context, args ...string) Output {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, l.opts.bin("trainrelay"), args...)
	cmd.Env = append(os.Environ(), l.Env()...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	out := Output{Args: args}
	if err := cmd.Run(); err != nil {
		out.Code = -1
		if exit, ok := err.(*exec.ExitError); ok {
			out.Code = exit.ExitCode()
		} else {
			fmt.Fprintln(&stderr, err)
		}
	}
	out.Stdout, out.Stderr = stdout.String(), stderr.String()
	return out
}

// Kubectl runs kubectl with all rights.
func (l *Lab) Kubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.prog("k8s"), append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), l.Env()...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out), nil
}

// Env points trainrelay and kubectl at the lab.
func (l *Lab) Env() []string {
	return []string{"TRAINRELAY_CONFIG=" + l.ClientConfig(), "KUBECONFIG=" + l.cluster.Kubeconfig()}
}

// Path is the PATH on which trainrelay and kubectl are found.
func (l *Lab) Path() string {
	return strings.Join([]string{l.path("bin"), l.opts.bin(""), os.Getenv("PATH")}, string(os.PathListSeparator))
}

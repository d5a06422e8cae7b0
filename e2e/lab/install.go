package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/e2e/cluster"
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
// commands that they use: connect the cluster, which installs the chart with
// helm, and make a compute.
func (l *Lab) installAgent(ctx context.Context) error {
	l.opts.say("installing the agent with trainrelay cluster connect --apply")
	for _, namespace := range []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: agentSpace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: trainSpace}},
	} {
		if _, err := l.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := errors.Join(l.writePrograms(), l.writeValues(), l.writeCompute()); err != nil {
		return err
	}
	if err := l.Connect(ctx).err(); err != nil {
		pods, _ := l.Kubectl(ctx, nil, "describe", "pods", "-n", agentSpace)
		logs, _ := l.Kubectl(ctx, nil, "logs", "-n", agentSpace, "daemonset/trainrelay-agent", "--tail=30")
		return fmt.Errorf("%w\n%s\n%s", err, pods, logs)
	}
	return l.CLI(ctx, "compute", "attach", "--name", computeName, "--cluster", clusterName, "--namespace", trainSpace,
		"--config-file", l.path("compute.json")).err()
}

// writeValues keeps the chart's values that are the lab's own in a file, which
// the proxy's password is in: a command line is for all to see.
func (l *Lab) writeValues() error {
	values := fmt.Sprintf("image: {registry: %q, tag: %q, pullPolicy: Never}\nlogLevel: debug\nproxy: {https: %q}\n", agentRegistry, agentTag,
		fmt.Sprintf("http://%s:%s@%s:%d", proxyUser, l.proxyPassword, siteProxyIP, proxyPort))
	return os.WriteFile(l.path("values.yaml"), []byte(values), 0o600)
}

// writeCompute keeps the compute's instance type, of which a small machine runs
// several at a time: the built-in one takes a processor each.
func (l *Lab) writeCompute() error {
	const small = `{"defaultInstanceType": "small", "instanceTypes": {"small": {"resources": {
  "requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}}}}`
	return os.WriteFile(l.path("compute.json"), []byte(small+"\n"), 0o644)
}

// Connect joins the cluster, anew where it has joined before.
func (l *Lab) Connect(ctx context.Context, more ...string) Output {
	return l.CLI(ctx, append([]string{"cluster", "connect", "--name", clusterName, "--apply", "--timeout", "3m",
		"--compute-namespace", trainSpace,
		"--relay-url", fmt.Sprintf("https://%s:%d", relayHost, relayPort),
		"--values", l.path("values.yaml")}, more...)...)
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
	cmd.Env = append(os.Environ(), append(l.Env(), "PATH="+l.Path())...)
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
	return l.tool(ctx, stdin, l.prog("k8s"), append([]string{"kubectl"}, args...)...)
}

// Helm runs helm with all rights.
func (l *Lab) Helm(ctx context.Context, args ...string) (string, error) {
	return l.tool(ctx, nil, l.prog("helm"), args...)
}

func (l *Lab) tool(ctx context.Context, stdin []byte, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), l.Env()...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, &stderr)
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

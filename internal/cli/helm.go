package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/deploy"
	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// Where the agent is installed, and as what.
const (
	agentRelease   = "trainrelay-agent"
	agentNamespace = "azureml"
	sourceChart    = "deploy/charts/trainrelay-agent" // in the source
)

// helm is how the agent's chart is installed.
type helm struct {
	Apply       bool          `help:"Install the chart with helm into the cluster of the kubeconfig, and wait until it works."`
	Kubeconfig  string        `help:"The kubeconfig, as of helm." placeholder:"FILE"`
	KubeContext string        `name:"kube-context" help:"The context of it, as of helm." placeholder:"NAME"`
	Chart       string        `help:"The chart, instead of the one in this program." placeholder:"PATH"`
	Values      []string      `name:"values" sep:"none" help:"A file of more values for the chart, as of helm; repeatable." placeholder:"FILE"`
	Set         []string      `name:"set" sep:"none" help:"One more value for the chart, as of helm; repeatable." placeholder:"KEY=VALUE"`
	Timeout     time.Duration `help:"How long --apply waits: 3m by default for the agent, 10m for an extension." placeholder:"TIME"`

	program string
	look    time.Duration // lookEvery, but in tests
}

// helmValues are values of the agent's chart.
type helmValues interface {
	// text is the values as helm reads them.
	text() ([]byte, error)
	// hide takes the secrets among them out of a text.
	hide(text string) string
}

// find looks for the program helm.
func (h *helm) find(getenv func(string) string) error {
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		file := filepath.Join(dir, "helm")
		if info, err := os.Stat(file); err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			h.program = file
			return nil
		}
	}
	return usage{errors.New("--apply needs the program helm, which is not on PATH"),
		"install it (https://helm.sh), or leave --apply out and run the line that is printed where helm is"}
}

// args are those of helm, with the values on stdin. What is there of an
// earlier installation stays, so that joining again needs the token only.
func (h *helm) args(chart string) []string {
	args := []string{"upgrade", "--install", agentRelease, chart, "--namespace", agentNamespace, "--create-namespace",
		"--reset-then-reuse-values", "--values", "-"}
	for _, option := range []struct {
		name   string
		values []string
	}{{"--values", h.Values}, {"--set", h.Set}, {"--kubeconfig", []string{h.Kubeconfig}}, {"--kube-context", []string{h.KubeContext}}} {
		for _, value := range option.values {
			if value != "" {
				args = append(args, option.name, value)
			}
		}
	}
	return args
}

// line is a command for a shell that does what install does.
func (h *helm) line(values helmValues) (string, error) {
	text, err := values.text()
	if err != nil {
		return "", err
	}
	chart := h.Chart
	if chart == "" {
		chart = sourceChart
	}
	words := append([]string{"helm"}, h.args(chart)...)
	for i, word := range words {
		words[i] = quote(word)
	}
	return strings.Join(words, " ") + " <<'EOF'\n" + string(text) + "EOF\n", nil
}

var plainWordRE = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes one word of a shell of it.
func quote(word string) string {
	if plainWordRE.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// install runs helm and waits for the agent.
func (h *helm) install(ctx context.Context, a *app, relay *client.Client, joined v1.JoinToken, values *chartValues) (cluster v1.Cluster, err error) {
	moving := a.newLine()
	moving.start()
	defer moving.stop()
	moving.set("helm installs the agent")
	if err := h.upgrade(ctx, values); err != nil {
		return cluster, hinted{err, "the join token is still good; the same command makes a new one"}
	}
	moving.hide(func() { a.notef("the chart is installed in namespace %s", agentNamespace) })
	if cluster, err = h.await(ctx, relay, joined.Cluster.Name, moving); err != nil {
		return cluster, err
	}
	moving.hide(func() {
		a.notef("cluster %s is connected. Next: %s", cluster.Name, nextStep(cluster.Name, values.ComputeNamespaces))
	})
	return cluster, nil
}

// upgrade runs helm with the chart in this program, unless another is named.
func (h *helm) upgrade(ctx context.Context, values helmValues) (err error) {
	if h.Chart != "" {
		return h.run(ctx, h.Chart, values)
	}
	dir, err := os.MkdirTemp("", "trainrelay-chart-")
	if err != nil {
		return fmt.Errorf("unpack the agent's chart: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	chart := filepath.Join(dir, agentRelease)
	if err := os.CopyFS(chart, deploy.AgentChart()); err != nil {
		return fmt.Errorf("unpack the agent's chart: %w", err)
	}
	return h.run(ctx, chart, values)
}

// valuesOf reads the values that the installation there was given.
func (h *helm) valuesOf(ctx context.Context, into any) error {
	args := []string{"get", "values", agentRelease, "--namespace", agentNamespace, "--output", "json"}
	if h.Kubeconfig != "" {
		args = append(args, "--kubeconfig", h.Kubeconfig)
	}
	if h.KubeContext != "" {
		args = append(args, "--kube-context", h.KubeContext)
	}
	cmd := exec.CommandContext(ctx, h.program, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return hinted{fmt.Errorf("helm: %w: %s", err, strings.TrimSpace(said.String())), "is the agent installed there? trainrelay cluster connect --apply installs it"}
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("helm get values %s: %w", agentRelease, err)
	}
	return nil
}

// run runs helm. What it says is shown where it fails, without the secrets of
// values that it may repeat.
func (h *helm) run(ctx context.Context, chart string, values helmValues) error {
	text, err := values.text()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, h.program, h.args(chart)...)
	cmd.Stdin = bytes.NewReader(text)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	// A Ctrl-C lets helm end in its own way.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("helm: %w: %s", err, values.hide(strings.TrimSpace(said.String())))
	}
	return nil
}

// lookEvery is how often the relay is asked whether the agent is there.
const lookEvery = time.Second

// await waits for the agent that joins with the token. That the relay cannot be
// asked for a while, restarting perhaps, is no reason to give up.
func (h *helm) await(ctx context.Context, relay *client.Client, name string, moving *line) (v1.Cluster, error) {
	waiting, cancel := context.WithTimeout(ctx, h.patience(joinPatience))
	defer cancel()
	moving.set("waiting for the agent to join")
	tick := time.NewTicker(cmp.Or(h.look, lookEvery))
	defer tick.Stop()
	cluster := v1.Cluster{Name: name}
	var unasked error // why the relay could not be asked when it was last tried
	for {
		now, err := relay.Cluster(waiting, name)
		switch {
		case err == nil:
			cluster, unasked = now, nil
		case waiting.Err() != nil:
		case passes(err):
			unasked = err
		default:
			return cluster, err
		}
		joined := cluster.PublicKey != "" && cluster.JoinTokenExpires == nil
		if joined && cluster.Connectivity == v1.Connected {
			return cluster, nil
		}
		if joined {
			moving.set("the agent has joined; waiting until it is connected")
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return cluster, context.Cause(ctx)
			}
			return cluster, h.absent(cluster, joined, unasked)
		case <-tick.C:
		}
	}
}

// How long --apply waits unless it is told.
const (
	joinPatience      = 3 * time.Minute
	extensionPatience = 10 * time.Minute // images come from elsewhere, and may be large
)

func (h *helm) patience(byDefault time.Duration) time.Duration { return cmp.Or(h.Timeout, byDefault) }

// passes reports whether asking again may help.
func passes(err error) bool {
	unreachable, refused := (*client.UnreachableError)(nil), (*client.APIError)(nil)
	return errors.As(err, &unreachable) || errors.As(err, &refused) && refused.Status >= http.StatusInternalServerError
}

// absent says why the agent is not there, as far as the relay knows. unasked is
// why the relay could not be asked.
func (h *helm) absent(cluster v1.Cluster, joined bool, unasked error) error {
	kubectl := []string{"kubectl"}
	if h.Kubeconfig != "" {
		kubectl = append(kubectl, "--kubeconfig", quote(h.Kubeconfig))
	}
	if h.KubeContext != "" {
		kubectl = append(kubectl, "--context", quote(h.KubeContext))
	}
	kubectl = slices.Concat(kubectl, []string{"--namespace", agentNamespace, "logs", "daemonset/" + agentRelease, "--tail=20"})
	what := "has not joined"
	if joined {
		what = "has joined and is not connected"
	}
	err := fmt.Errorf("the agent of cluster %s %s after %v", cluster.Name, what, h.patience(joinPatience))
	if len(cluster.Problems) > 0 {
		err = fmt.Errorf("%w; it says: %s", err, strings.Join(cluster.Problems, "; "))
	}
	if unasked != nil {
		err = fmt.Errorf("%w, as far as is known, for the last look failed: %v", err, unasked)
	}
	return hinted{err, "it goes on trying; its log says why: " + strings.Join(kubectl, " ")}
}

// Command devcluster runs a Kubernetes cluster on this machine for developers:
// up, down, and what lies between.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
)

type commands struct {
	Dir string `help:"State folder of the cluster." default:".lab/dev" type:"path"`

	Up      up         `cmd:"" help:"Start a cluster, which goes on when this command ends."`
	Down    down       `cmd:"" help:"Stop the cluster and leave nothing behind."`
	Status  status     `cmd:"" help:"Say which components run."`
	Import  imports    `cmd:"" help:"Load docker archives into every node."`
	Kill    kill       `cmd:"" help:"Kill a component, as a crash would."`
	Restart restart    `cmd:"" help:"Kill a component and start it again."`
	Exec    execOnNode `cmd:"" help:"Run a command on a node."`
	Kubectl kubectl    `cmd:"" help:"Run kubectl with the admin's credentials." passthrough:""`
	Env     env        `cmd:"" help:"Print the settings that point kubectl at the cluster, for eval."`
}

func main() {
	var c commands
	k := kong.Parse(&c, kong.Description("A real Kubernetes cluster on this machine, for development."), kong.UsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	k.FatalIfErrorf(k.Run(&c))
}

type up struct {
	Bin   string `help:"Folder of the cluster's binaries." default:"bin/cluster" type:"path"`
	Nodes int    `help:"How many nodes; 0 is an API server alone, which needs no root." default:"1"`
	Fsync bool   `help:"Let etcd survive power cuts."`
	Audit bool   `help:"Let the API server log every request."`
}

func (u *up) Run(ctx context.Context, c *commands) error {
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if u.Nodes > 0 {
		if err := host.EnsurePackages(ctx, say, cluster.Packages...); err != nil {
			return err
		}
	}
	started, err := cluster.Start(ctx, cluster.Options{
		Dir: c.Dir, Bin: u.Bin, Nodes: u.Nodes, Fsync: u.Fsync, Audit: u.Audit, Detach: true, Log: say,
	})
	if err != nil {
		return err
	}
	say("export KUBECONFIG=%s", started.Kubeconfig())
	return nil
}

type down struct{}

func (*down) Run(ctx context.Context, c *commands) error { return cluster.Down(ctx, c.Dir) }

type status struct{}

func (*status) Run(c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	var dead []error
	for _, name := range opened.Components() {
		state := "runs"
		if !opened.Component(name).Alive() {
			state = "is dead"
			dead = append(dead, fmt.Errorf("%s is dead", name))
		}
		fmt.Printf("%-20s %s\n", name, state)
	}
	return errors.Join(dead...)
}

type imports struct {
	Archives []string `arg:"" help:"Docker archives." type:"existingfile"`
}

func (i *imports) Run(ctx context.Context, c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	return opened.Import(ctx, i.Archives...)
}

type kill struct {
	Component string `arg:"" help:"Such as apiserver, node1 or node1/kubelet."`
}

func (k *kill) Run(ctx context.Context, c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	return opened.Component(k.Component).Kill(ctx)
}

type restart struct {
	Component string `arg:"" help:"Such as apiserver, node1 or node1/kubelet."`
}

func (r *restart) Run(ctx context.Context, c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	return opened.Component(r.Component).Restart(ctx)
}

type execOnNode struct {
	Node    int      `arg:"" help:"The node's number."`
	Command []string `arg:"" help:"Command and its arguments." passthrough:""`
}

func (e *execOnNode) Run(ctx context.Context, c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	out, err := opened.NodeExec(ctx, e.Node, e.Command...)
	return errors.Join(err, write(out))
}

func write(out []byte) error {
	_, err := os.Stdout.Write(out)
	return err
}

type kubectl struct {
	Args []string `arg:"" optional:"" help:"kubectl's arguments."`
}

func (k *kubectl) Run(ctx context.Context, c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	args := append([]string{"kubectl", "--kubeconfig=" + opened.Kubeconfig()}, k.Args...)
	cmd := exec.CommandContext(ctx, filepath.Join(opened.Bin(), "k8s"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

type env struct{}

func (*env) Run(c *commands) error {
	opened, err := cluster.Open(c.Dir)
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG='%s'\nkubectl() { '%s' kubectl \"$@\"; }\n",
		opened.Kubeconfig(), filepath.Join(opened.Bin(), "k8s"))
	return nil
}

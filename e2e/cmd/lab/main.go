// Command lab makes a lab to look at: a Kubernetes cluster behind a proxy, and
// a relay on the far side of it. It is what "make demo" runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/trainrelay/trainrelay/e2e/lab"
)

type commands struct {
	Repo string `help:"The checkout of trainrelay." default:".." type:"existingdir"`
	Dir  string `help:"The lab's folder." default:"../.lab/demo" type:"path"`

	Image struct{} `cmd:"" help:"Make the image of examples/iris, unless it is there."`
	Demo  struct{} `cmd:"" help:"Make the lab, unless it stands, and train examples/iris in it."`
	Up    struct{} `cmd:"" help:"Make the lab."`
	Env   struct{} `cmd:"" help:"Print the variables that point trainrelay and kubectl at the lab."`
	Down  struct{} `cmd:"" help:"Take the lab away, and what killed tests left."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	command := kong.Parse(&c, kong.Name("lab"), kong.Description("A cluster behind a proxy, and a relay beyond it."))
	repo, err := filepath.Abs(c.Repo)
	command.FatalIfErrorf(err)
	options := lab.Options{Repo: repo, Dir: c.Dir, Detach: true, Log: os.Stderr}
	switch command.Command() {
	case "image":
		err = lab.PythonImage(ctx, options)
	case "demo":
		err = demo(ctx, options)
	case "up":
		_, err = lab.Up(ctx, options)
	case "env":
		err = env(options)
	case "down":
		err = errors.Join(lab.Down(ctx, options), lab.Sweep(ctx, options))
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		os.Exit(exit.ExitCode()) // it has said why
	}
	command.FatalIfErrorf(err)
}

// demo shows the main job, as a user would run it.
func demo(ctx context.Context, options lab.Options) error {
	if lab.Stands(options) {
		fmt.Fprintln(os.Stderr, "The lab stands already, with the relay and the agent of then; make demo-down takes it away.")
	} else if _, err := lab.Up(ctx, options); err != nil {
		return err
	}
	args := []string{"job", "create", "-f", "examples/iris/job.yml", "--stream"}
	fmt.Fprintf(os.Stderr, "\n$ trainrelay job create -f examples/iris/job.yml --stream\n")
	cmd := exec.CommandContext(ctx, filepath.Join(options.Repo, "bin", "trainrelay"), args...)
	cmd.Dir, cmd.Env = options.Repo, append(os.Environ(), lab.Environment(options)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, `
The lab goes on. To look around:

    eval "$(make -s demo-env)"
    trainrelay job list
    trainrelay cluster show --name onprem-1
    kubectl get pods -A
    cat .lab/demo/squid/access.log

and to take it away: make demo-down
`)
	return nil
}

// env prints what a shell evaluates.
func env(options lab.Options) error {
	if !lab.Stands(options) {
		return errors.New("there is no lab: make demo")
	}
	for _, variable := range lab.Environment(options) {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Printf("export %s=%s\n", name, quote(value))
	}
	fmt.Printf("export PATH=%s:%s:\"$PATH\"\n", quote(filepath.Join(options.Dir, "bin")), quote(filepath.Join(options.Repo, "bin")))
	return nil
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Package cli is the users' command line: what is typed, what is printed and
// with which code the process ends. The words are those of "az ml".
//
// On stdout is the answer alone, so that it can be captured; notes, progress
// and errors go to stderr, colour and moving lines only to a terminal. Errors
// are printed in one place, as what happened, where, and what to do next; the
// exit code tells their kind (see exitCodes). Nothing is retried that could
// happen twice: a submitted job has its name before it is sent.
//
// Commands run under the context of Main: when it is done they stop at once
// and say what goes on without them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// IO is the world around a command.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// IsTerminal says whether what is written goes to a terminal; nil: never.
	IsTerminal func(io.Writer) bool
	// Password asks for a line that is not shown; nil where nobody can answer.
	Password func(ctx context.Context, prompt string) ([]byte, error)
	// Getenv reads an environment variable; nil: there are none.
	Getenv func(string) string
}

// grammar is the command line, as kong reads it.
type grammar struct {
	Config string `help:"Where the relay is and the token for it. Default: $$TRAINRELAY_CONFIG, or else ~/.config/trainrelay/client.json." placeholder:"FILE"`
	// PrintVersion is the habit; the command is Version.
	PrintVersion versionFlag `name:"version" help:"Print the version."`

	Job         jobCommands         `cmd:"" help:"Submit and follow training jobs."`
	Logs        logsCommands        `cmd:"" help:"Search the output of jobs."`
	Compute     computeCommands     `cmd:"" help:"Where jobs run: namespaces of clusters."`
	Cluster     clusterCommands     `cmd:"" help:"The Kubernetes clusters whose agents may connect."`
	Extension   extensionCommands   `cmd:"" name:"k8s-extension" help:"The extension Microsoft.AzureML.Kubernetes of a cluster: what is installed for training."`
	Environment environmentCommands `cmd:"" help:"Images that job files name as azureml:NAME:VERSION."`
	Key         keyCommands         `cmd:"" help:"The keys by which clusters know what the relay says."`
	Login       loginCommand        `cmd:"" help:"Keep where the relay is and a token for it."`
	Whoami      whoamiCommand       `cmd:"" help:"Show whose token is used."`
	Token       tokenCommands       `cmd:"" help:"Who may use the relay, and what for."`
	Audit       auditCommand        `cmd:"" help:"Show who changed what, newest first."`
	Version     versionCommand      `cmd:"" help:"Print the version."`
	Help        helpCommand         `cmd:"" help:"Explain a topic: exit-codes, environment, output."`
}

// versionFlag prints the program's version, where it can mean nothing else.
type versionFlag bool

// IsBool tells kong that no value follows.
func (versionFlag) IsBool() bool { return true }

// BeforeReset does it, as that of kong.VersionFlag.
func (versionFlag) BeforeReset(program *kong.Kong, command *kong.Context, vars kong.Vars) error {
	if strings.HasPrefix(command.Command(), "k8s-extension") {
		return usage{errors.New("--version: an extension has the version of the agent's chart, which is that of this program"), "leave it out"}
	}
	fmt.Fprintln(program.Stdout, vars["version"])
	program.Exit(0)
	return nil
}

// Command is a command of the program that is not the users'.
type Command struct {
	Name, Help string
	Grammar    any // as kong reads it
}

// exited carries the exit code out of kong where it would end the process.
type exited int

// Main runs the command line args, without the program's name, and returns the
// exit code of the process. The program's own commands stand beside the users'.
func Main(ctx context.Context, args []string, stdio IO, own ...Command) (code int) {
	if stdio.IsTerminal == nil {
		stdio.IsTerminal = func(io.Writer) bool { return false }
	}
	if stdio.Getenv == nil {
		stdio.Getenv = func(string) string { return "" }
	}
	a := &app{io: stdio}
	defer a.close()
	var g grammar
	options := []kong.Option{
		kong.Name("trainrelay"),
		kong.Description("Train on Kubernetes clusters that nobody can reach from outside."),
		kong.Writers(stdio.Out, stdio.Err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.Vars{"version": versionLine()},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a, stdio),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	}
	for _, c := range own {
		options = append(options, kong.DynamicCommand(c.Name, c.Help, "", c.Grammar))
	}
	defer func() {
		if r := recover(); r != nil {
			exit, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(exit)
		}
	}()
	parser, err := kong.New(&g, options...)
	if err != nil {
		return a.report(err)
	}
	command, err := parser.Parse(helpArgs(azVersion(args)))
	if err != nil {
		return a.report(err)
	}
	a.config = g.Config
	return a.report(command.Run())
}

// helpArgs turns "help job create" into "job create --help", and nothing at
// all into a request for help.
func helpArgs(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help" && (len(args) == 1 || topics[args[1]] == nil):
		return append(slices.Clone(args[1:]), "--help")
	}
	return args
}

// azVersion takes --version, which is the program's, for the version of an
// environment where az does.
func azVersion(args []string) []string {
	if len(args) == 0 || args[0] != "environment" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--version" || strings.HasPrefix(arg, "--version=") {
			args[i] = "--asset-version" + strings.TrimPrefix(arg, "--version")
		}
	}
	return args
}

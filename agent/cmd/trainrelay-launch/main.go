// Command trainrelay-launch runs inside training pods, before their command:
//
//	trainrelay-launch fetch --url U --token-file F --digest D --dir DIR [--timeout 10m]
//
// fetches the code of the pod's attempt into the folder DIR. It reads no
// environment variables. It exits with 0, with 1 where it failed, the last
// line of its output says why, and with 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/trainrelay/trainrelay/agent/launch"
)

func main() {
	// The command runs as another user, without the right to pass over the
	// modes of files, and may write into its code; the folder is its pod's own.
	syscall.Umask(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

const usage = "usage: trainrelay-launch fetch --url URL --token-file FILE --digest DIGEST --dir FOLDER [--timeout 10m]"

func run(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "fetch" {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	o := launch.Options{Progress: stderr}
	flags := flag.NewFlagSet("fetch", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, usage); flags.PrintDefaults() }
	flags.StringVar(&o.URL, "url", "", "`URL` of the code, at the agent's gateway")
	flags.StringVar(&o.TokenFile, "token-file", "", "`file` that holds the attempt's token")
	flags.StringVar(&o.Digest, "digest", "", "`digest` of the code")
	flags.StringVar(&o.Dir, "dir", "", "`folder` for the code; what it holds is replaced")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Minute, "for all tries together")
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "unexpected argument %q\n%s\n", flags.Arg(0), usage)
		return 2
	}
	if err := launch.Fetch(ctx, o); err != nil {
		fmt.Fprintf(stderr, "trainrelay-launch: %v\n", err)
		return 1
	}
	return 0
}

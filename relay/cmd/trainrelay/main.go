// Command trainrelay is the relay, with "trainrelay serve", and its users'
// command line.
//
// It reads these environment variables:
//
//	TRAINRELAY_CONFIG         where the relay is and the token for it; see --config
//	XDG_CONFIG_HOME           the folder of trainrelay/client.json; by default ~/.config
//	XDG_STATE_HOME            the folder of trainrelay/, where serve keeps its data
//	                          unless it runs as root; by default ~/.local/state
//	HOME                      the user's folder
//	HTTPS_PROXY, NO_PROXY     the proxy on the way to the relay, and for what it is not used
//	NO_COLOR, TERM            whether to write in colour
package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/trainrelay/trainrelay/internal/cli"
	"github.com/trainrelay/trainrelay/internal/process"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := process.Signals(context.Background())
	defer stop()
	return cli.Main(ctx, os.Args[1:], cli.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		IsTerminal: func(w io.Writer) bool {
			file, ok := w.(*os.File)
			return ok && term.IsTerminal(int(file.Fd()))
		},
		Getenv: os.Getenv,
	}, &Serve{})
}

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
	"errors"
	"fmt"
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
	var ask func(context.Context, string) ([]byte, error)
	if term.IsTerminal(int(os.Stdin.Fd())) {
		ask = password
	}
	return cli.Main(ctx, os.Args[1:], cli.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		IsTerminal: func(w io.Writer) bool {
			file, ok := w.(*os.File)
			return ok && term.IsTerminal(int(file.Fd()))
		},
		Password: ask,
		Getenv:   os.Getenv,
	},
		cli.Command{Name: "serve", Help: "Run the relay.", Grammar: &Serve{}},
		cli.Command{Name: "nats", Help: "Run the relay on a NATS server of your own.", Grammar: &NATS{}})
}

// password reads a line from the terminal that it does not show. When ctx ends
// first, the terminal is left as it was; the reading ends with the process.
func password(ctx context.Context, prompt string) ([]byte, error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(stdin)
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		return a.text, a.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(stdin, before))
	}
}

package cli

import (
	"fmt"
	"strings"

	"github.com/trainrelay/trainrelay/internal/version"
)

// topics are what "trainrelay help" explains beyond the commands.
var topics = map[string]func() string{
	"exit-codes":  exitCodesHelp,
	"environment": func() string { return environmentHelp },
	"output":      func() string { return outputHelp },
}

type helpCommand struct {
	Topic string `arg:"" enum:"exit-codes,environment,output" help:"exit-codes, environment or output."`
}

func (h *helpCommand) Run(a *app) error {
	_, err := fmt.Fprint(a.io.Out, topics[h.Topic]())
	return err
}

func exitCodesHelp() string {
	var b strings.Builder
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "%3d  %s\n", e.code, e.meaning)
	}
	return b.String()
}

const environmentHelp = `TRAINRELAY_CONFIG  the client configuration, a JSON file with url, token and ca; --config goes before it
XDG_CONFIG_HOME    the folder of trainrelay/client.json where neither is given; by default ~/.config
XDG_STATE_HOME     where a relay of this user keeps its data, client.json included; looked at next; by default ~/.local/state
HTTPS_PROXY        the proxy on the way to the relay
NO_PROXY           hosts that are reached without it
NO_COLOR           no colour, whatever its value
`

const outputHelp = `-o json   the answer as the API gives it; the default, except of lists
-o jsonc  the same in colour
-o yaml   the same as YAML
-o table  columns for people; the default of lists
-o tsv    for scripts: a value stands bare, the items of a list on a line each, the values of an object between tabs
-o none   nothing

--query selects with JMESPath (https://jmespath.org) before anything is printed:
  run_id=$(trainrelay job create -f job.yml --query name -o tsv)
  trainrelay job list --query "[?status=='Failed'].[name,reason.message]" -o tsv
`

type versionCommand struct{}

func (versionCommand) Run(a *app) error {
	_, err := fmt.Fprintln(a.io.Out, versionLine())
	return err
}

func versionLine() string { return "trainrelay " + version.String() }

// Command agentimage assembles the agent's container image from its static
// binaries, as an archive for ctr, docker or podman to import. It needs no
// container runtime and no registry.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/trainrelay/trainrelay/e2e/images"
)

type options struct {
	Bin  string `help:"The folder of trainrelay-agent and trainrelay-launch, built for the architecture." required:"" type:"existingdir"`
	Arch string `help:"The architecture, amd64 or arm64." required:"" enum:"amd64,arm64"`
	Tag  string `help:"The image's name and tag." required:""`
	Out  string `help:"The archive to write." required:"" type:"path"`
}

func main() {
	var o options
	command := kong.Parse(&o, kong.Description("Assembles the agent's container image."))
	command.FatalIfErrorf(os.MkdirAll(filepath.Dir(o.Out), 0o755))
	command.FatalIfErrorf(images.Agent(images.AgentOptions{
		Agent:  filepath.Join(o.Bin, "trainrelay-agent"),
		Launch: filepath.Join(o.Bin, "trainrelay-launch"),
		Arch:   o.Arch, Tag: o.Tag, Out: o.Out,
	}))
	fmt.Printf("%s is in %s\n", o.Tag, o.Out)
}

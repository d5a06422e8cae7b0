package lab

import (
	"context"
	"path/filepath"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/e2e/images"
)

// agentImage is where the chart of this lab finds the agent.
const (
	agentRegistry = "trainrelay.test"
	agentTag      = "dev"
	agentImage    = agentRegistry + "/trainrelay/trainrelay-agent:" + agentTag
)

// packages installs the Debian packages that the lab's programs come from.
func packages(ctx context.Context, opts Options) error {
	need := []string{"squid", "openssl"}
	need = append(need, cluster.Packages...)
	need = append(need, images.PythonPackages...)
	return host.EnsurePackages(ctx, opts.say, need...)
}

// build makes the images that the node cannot pull from anywhere, and returns
// their files.
func build(ctx context.Context, opts Options) ([]string, error) {
	opts.say("assembling the agent's image")
	folder := filepath.Join(opts.Repo, "dist", "images")
	agent := images.AgentOptions{
		Agent: opts.bin("trainrelay-agent"), Launch: opts.bin("trainrelay-launch"),
		Tag: agentImage, Out: filepath.Join(folder, "trainrelay-agent.tar"),
	}
	if err := images.Agent(agent); err != nil {
		return nil, err
	}
	python, err := images.Python(ctx, images.PythonOptions{Cache: folder, Log: opts.say})
	if err != nil {
		return nil, err
	}
	return []string{agent.Out, python}, nil
}

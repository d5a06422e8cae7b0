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
	need := []string{"squid-openssl", "openssl"}
	need = append(need, cluster.Packages...)
	need = append(need, images.PythonPackages...)
	return host.EnsurePackages(ctx, opts.say, need...)
}

// PythonImage makes the image of examples/iris, unless it is there: the one that
// takes long.
func PythonImage(ctx context.Context, opts Options) error {
	if err := packages(ctx, opts); err != nil {
		return err
	}
	_, err := pythonImage(ctx, opts)
	return err
}

func pythonImage(ctx context.Context, opts Options) (string, error) {
	return images.Python(ctx, images.PythonOptions{Cache: imageFolder(opts), Log: opts.say})
}

func imageFolder(opts Options) string { return filepath.Join(opts.Repo, "dist", "images") }

// build makes the images that the node cannot pull from anywhere, and returns
// their files.
func build(ctx context.Context, opts Options) ([]string, error) {
	opts.say("assembling the agent's image")
	agent := images.AgentOptions{
		Agent: opts.bin("trainrelay-agent"), Launch: opts.bin("trainrelay-launch"),
		Tag: agentImage, Out: filepath.Join(imageFolder(opts), "trainrelay-agent.tar"),
	}
	if err := images.Agent(agent); err != nil {
		return nil, err
	}
	python, err := pythonImage(ctx, opts)
	if err != nil {
		return nil, err
	}
	return []string{agent.Out, python}, nil
}

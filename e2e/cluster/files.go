package cluster

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed config
var configs embed.FS

// site is what the configuration files are filled in with.
type site struct {
	PKI, HostIP, DNSIP, PodNetwork, Pause string
	Node                                  nodeFiles
}

type nodeFiles struct{ Dir, Cgroup, Pods string }

// writeConfig fills in configuration files and writes them into a folder.
func (c *Cluster) writeConfig(dir string, node nodeFiles, names ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data := site{
		PKI: c.pki(""), HostIP: hostIP().String(), DNSIP: DNSAddress, PodNetwork: PodNetwork,
		Pause: PauseImage, Node: node,
	}
	for _, name := range names {
		t, err := template.ParseFS(configs, "config/"+name)
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := t.Execute(f, data); err != nil {
			f.Close()
			return fmt.Errorf("write %s: %w", f.Name(), err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// description is what Open needs to know of a cluster that another process
// started.
type description struct {
	Options Options `json:"options"`
	Ports   ports   `json:"ports"`
}

const descriptionName = "cluster.json"

func (d description) write() error {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.Options.Dir, descriptionName), text, 0o644)
}

func readDescription(dir string) (description, error) {
	var d description
	file := filepath.Join(dir, descriptionName)
	text, err := os.ReadFile(file)
	if err != nil {
		return d, fmt.Errorf("there is no cluster in %s: start one first: %w", dir, err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

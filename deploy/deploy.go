// Package deploy carries what installs trainrelay into a cluster: the agent's
// Helm chart. It is embedded, so that a program which installs the agent needs
// no file beside it. The plain manifests beside it are rendered from the chart.
package deploy

import (
	"embed"
	"io/fs"
)

//go:embed all:charts/trainrelay-agent
var charts embed.FS

// AgentChart returns the files of the agent's chart, Chart.yaml at the top.
func AgentChart() fs.FS {
	chart, err := fs.Sub(charts, "charts/trainrelay-agent")
	if err != nil {
		panic(err) // the name is a constant and valid
	}
	return chart
}

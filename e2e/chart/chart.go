// Package chart renders the agent's Helm chart as helm would, without a helm
// binary. The lab installs the agent with it, and its tests keep what the chart
// promises: values are checked, the pods meet the restricted profile, the
// agent's rights are the ones written down, the plain manifests are in step.
// Values that the chart refuses are an error in the chart's own words.
package chart

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1/util"

	"github.com/trainrelay/trainrelay/deploy"
)

// Namespace is where the chart wants to be installed.
const Namespace = "azureml"

// KubeVersion is the Kubernetes that charts are rendered for.
const KubeVersion = "v1.37.2"

// Render gives the YAML that `helm template trainrelay-agent --namespace azureml`
// prints for values, in the order in which it can be applied.
func Render(values map[string]any) ([]byte, error) {
	files, err := render(values)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return path.Ext(name) != ".yaml" })
	_, manifests, err := release.SortManifests(files, nil, release.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("agent's chart: %w", err)
	}
	var out strings.Builder
	for _, manifest := range manifests {
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSpace(manifest.Content))
	}
	return []byte(out.String()), nil
}

// render gives what each template of the chart made of values, by path.
func render(values map[string]any) (map[string]string, error) {
	agent, err := load(deploy.AgentChart())
	if err != nil {
		return nil, fmt.Errorf("agent's chart: %w", err)
	}
	version, err := common.ParseKubeVersion(KubeVersion)
	if err != nil {
		return nil, fmt.Errorf("agent's chart: Kubernetes version: %w", err)
	}
	into := common.ReleaseOptions{Name: agent.Name(), Namespace: Namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(agent, values, into, &common.Capabilities{KubeVersion: *version})
	if err != nil {
		return nil, fmt.Errorf("agent's chart: %w", err)
	}
	files, err := engine.Render(agent, all)
	if err != nil {
		return nil, fmt.Errorf("agent's chart: %w", err)
	}
	return files, nil
}

// load reads a chart from its files.
func load(files fs.FS) (*chart.Chart, error) {
	var buffered []*archive.BufferedFile
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		buffered = append(buffered, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return loader.LoadFiles(buffered)
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocuments runs every command that the documents in docs show in a block
// marked sh, each document in one shell from top to bottom. Blocks without a mark
// are for a machine of the reader's: they install, wait for input or take things
// away. Left out are the README, whose make targets make a lab of their own, and
// the chart's README: as its first block says, this lab's agent is installed, only
// behind a proxy; its second needs a cluster without an agent, and is run by
// TestReadme of e2e/chart.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(site(t).Repo, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		script := shellBlocks(string(text))
		if script == "" {
			continue
		}
		ran++
		t.Run(filepath.Base(file), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", script)
			cmd.Dir = site(t).Repo
			cmd.Env = append(os.Environ(), append(site(t).Env(), "PATH="+site(t).Path())...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if ran == 0 {
		t.Error("no document shows a command")
	}
}

// shellBlocks joins the blocks marked sh.
func shellBlocks(text string) string {
	var script strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.TrimSpace(line) == "```sh":
			inside = true
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			script.WriteString(line)
		}
	}
	return script.String()
}

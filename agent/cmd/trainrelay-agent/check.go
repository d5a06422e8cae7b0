package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/klog/v2"

	"github.com/trainrelay/trainrelay/agent"
	"github.com/trainrelay/trainrelay/protocol"
)

// check is the command line of "trainrelay-agent check": that of run, since it
// checks what run would do.
type check struct {
	run
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"How to print: table or json."`
}

// do checks and prints what was found; ok is whether all is well.
func (c *check) do(ctx context.Context, out io.Writer, getenv func(string) string) (ok bool, err error) {
	klog.SetOutput(io.Discard) // the result says it
	klog.LogToStderr(false)
	options, wrong := c.options(getenv)
	found := agent.Check(ctx, options, wrong)
	if c.Output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(found)
	} else {
		_, err = io.WriteString(out, table(found))
	}
	if err != nil {
		return false, fmt.Errorf("print: %w", err)
	}
	return failed(found) == 0, nil
}

func failed(found *protocol.Check) (n int) {
	for _, r := range found.Results {
		if !r.OK {
			n++
		}
	}
	return n
}

// table has a line for each check, and the fix under each that failed.
func table(found *protocol.Check) string {
	var b strings.Builder
	width := 0
	for _, r := range found.Results {
		width = max(width, len(r.Name))
	}
	for _, r := range found.Results {
		word := "FAIL"
		switch {
		case r.OK:
			word = "ok"
		case r.Skipped:
			word = "skip"
		}
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", word, width, r.Name, r.Detail)
		if r.Fix != "" {
			fmt.Fprintf(&b, "%-4s  %-*s  fix: %s\n", "", width, "", r.Fix)
		}
	}
	return b.String()
}

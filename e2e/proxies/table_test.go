package proxies

import (
	"os"
	"strings"
	"testing"
)

const (
	tableFile  = "docs/proxies.md"
	tableBegin = "<!-- table: written by TestProxyMatrix with -update -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// table is the matrix in Markdown, aligned for reading as it is.
func table(results map[string]map[string]bool) string {
	width := 0
	for _, r := range rows {
		width = max(width, len(r.name))
	}
	pad := func(text string, to int) string { return text + strings.Repeat(" ", to-len(text)) }
	var b strings.Builder
	b.WriteString("| " + pad("way out", width) + " | wss | tls | nats |\n")
	b.WriteString("|" + strings.Repeat("-", width+2) + "|-----|-----|------|\n")
	for _, r := range rows {
		b.WriteString("| " + pad(r.name, width))
		for _, transport := range transports {
			cell := "no"
			if results[r.id][transport] {
				cell = "yes"
			}
			b.WriteString(" | " + pad(cell, max(3, len(transport))))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// checkTable compares the table with the one in the documents, or writes that,
// where every row ran.
func checkTable(t *testing.T, results map[string]map[string]bool) {
	t.Helper()
	for _, r := range rows {
		if len(results[r.id]) < len(transports) {
			t.Logf("the table is left alone: %s did not run", r.id)
			return
		}
	}
	now := table(results)
	t.Logf("what works:\n%s", now)
	file := world.repo + "/" + tableFile
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	old, after, ends := strings.Cut(rest, tableEnd)
	if !found || !ends {
		t.Fatalf("%s has no place for the table", tableFile)
	}
	if *update {
		writeFile(t, file, before+tableBegin+now+tableEnd+after)
		return
	}
	if old != now {
		t.Errorf("the table in %s is another; go test -run TestProxyMatrix -update writes it:\n%s", tableFile, old)
	}
}

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// testApp is an app that writes into buffers, as a terminal or not.
func testApp(terminal bool, env map[string]string) (a *app, out, errs *bytes.Buffer) {
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return &app{io: IO{Out: out, Err: errs,
		IsTerminal: func(io.Writer) bool { return terminal },
		Getenv:     func(name string) string { return env[name] },
	}}, out, errs
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456, time.UTC)

func jobs() []v1.Job {
	return []v1.Job{
		{Name: "a_1", Type: "command", Command: "run <a> && b", ExperimentName: "iris", Compute: "onprem", Status: protocol.Queued,
			Inputs: map[string]string{"rate": "0.10"}, Resources: v1.Resources{InstanceCount: 2}, CreationContext: v1.CreationContext{CreatedAt: noon},
			Reason: protocol.NewReason(protocol.Unschedulable, "0/3 nodes\nhave \x1b[31mGPUs")},
		{Name: "b_2", Type: "command", Compute: "gpu", Status: protocol.Completed, CreationContext: v1.CreationContext{CreatedAt: noon}},
	}
}

func TestPrint(t *testing.T) {
	all, one := jobs(), jobs()[0]
	for _, tc := range []struct {
		name     string
		o        output
		v        any
		fallback string
		want     string
	}{
		{"bare value", output{Format: "tsv", Query: "name"}, one, "json", "a_1\n"},
		{"number", output{Format: "tsv", Query: "resources.instance_count"}, one, "json", "2\n"},
		{"text that looks like a number", output{Format: "tsv", Query: "inputs.rate"}, one, "json", "0.10\n"},
		{"missing value", output{Format: "tsv", Query: "nothing"}, one, "json", ""},
		{"list by line", output{Format: "tsv", Query: "[].name"}, all, "table", "a_1\nb_2\n"},
		{"rows of lists", output{Format: "tsv", Query: "[].[name,status]"}, all, "table", "a_1\tQueued\nb_2\tCompleted\n"},
		{"rows of objects", output{Format: "tsv", Query: "[].{b:name,a:status,c:resources}"}, all, "table", "Queued\ta_1\t\nCompleted\tb_2\t\n"},
		{"what divides cells, in one", output{Format: "tsv", Query: "[`\"a\\tb\\nc\"`, [`\"d\\re\"`, `1`], {x: `\"f\\tg\"`}]"}, one, "json", "a b c\nd e\t1\nf g\n"},
		{"what divides cells, alone", output{Format: "tsv", Query: "`\"a\\tb\\nc\"`"}, one, "json", "a\tb\nc\n"},
		{"no rows", output{Format: "tsv", Query: "[?name=='x']"}, all, "table", ""},
		{"empty list", output{}, []v1.Job{}, "table", ""},
		{"empty list as JSON", output{Format: "json"}, []v1.Job{}, "table", "[]\n"},
		{"none", output{Format: "none", Query: "name"}, one, "json", ""},
		{"a query is JSON by default", output{Query: "[].name"}, all, "table", "[\n  \"a_1\",\n  \"b_2\"\n]\n"},
		{"nothing escaped for HTML", output{Query: "command"}, one, "json", "\"run <a> && b\"\n"},
		{"yaml", output{Format: "yaml", Query: "inputs"}, one, "json", "rate: \"0.10\"\n"},
		{"table of a query", output{Format: "table", Query: "[].{name:name,state:status}"}, all, "json", "Name  State\n----  -----\na_1   Queued\nb_2   Completed\n"},
		{"table of lists", output{Format: "table", Query: "[].[name,status]"}, all, "json", "Column1  Column2\n-------  -------\na_1      Queued\nb_2      Completed\n"},
		{"jsonc without a terminal", output{Format: "jsonc", Query: "name"}, one, "json", "\"a_1\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, out, _ := testApp(false, nil)
			if err := a.print(tc.o, tc.v, tc.fallback, jobColumns); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestTable: columns line up, and what a cluster says cannot steer a terminal.
func TestTable(t *testing.T) {
	a, out, _ := testApp(true, nil)
	if err := a.print(output{}, jobs(), "table", jobColumns); err != nil {
		t.Fatal(err)
	}
	want := `Name  Status     Experiment  Compute  Created               Reason
----  ------     ----------  -------  -------               ------
a_1   Queued     iris        onprem   2026-01-02T12:00:00Z  0/3 nodes have �[31mGPUs
b_2   Completed              gpu      2026-01-02T12:00:00Z
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestJSONIsTheAPI: what is printed reads back as what the API gave.
func TestJSONIsTheAPI(t *testing.T) {
	a, out, _ := testApp(false, nil)
	if err := a.print(output{}, jobs()[0], "json", nil); err != nil {
		t.Fatal(err)
	}
	var back v1.Job
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(jobs()[0], back); diff != "" {
		t.Errorf("-printed +read:\n%s", diff)
	}
}

func TestColourOnlyOnATerminalThatWantsIt(t *testing.T) {
	for _, tc := range []struct {
		name     string
		terminal bool
		env      map[string]string
		want     bool
	}{
		{"terminal", true, nil, true},
		{"pipe", false, nil, false},
		{"NO_COLOR", true, map[string]string{"NO_COLOR": "1"}, false},
		{"dumb", true, map[string]string{"TERM": "dumb"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, out, errs := testApp(tc.terminal, tc.env)
			if err := a.print(output{Format: "jsonc"}, jobs()[0], "json", nil); err != nil {
				t.Fatal(err)
			}
			a.report(usage{errText("x"), ""})
			for what, text := range map[string]string{"stdout": out.String(), "stderr": errs.String()} {
				if got := strings.Contains(text, "\x1b["); got != tc.want {
					t.Errorf("%s: coloured %v, want %v: %q", what, got, tc.want, text)
				}
			}
		})
	}
}

func TestPaintKeepsTheText(t *testing.T) {
	text := `{"a \"b\": c": [1, -2.5e+3, true, null, "x: 1"]}`
	painted := string(paint([]byte(text)))
	for _, code := range []string{"\x1b[34m", "\x1b[32m", "\x1b[36m", "\x1b[0m"} {
		if !strings.Contains(painted, code) {
			t.Errorf("no %q in %q", code, painted)
		}
		painted = strings.ReplaceAll(painted, code, "")
	}
	if painted != text {
		t.Errorf("got %s", painted)
	}
}

type errText string

func (e errText) Error() string { return string(e) }

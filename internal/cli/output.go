package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/jmespath/go-jmespath"
)

// output is how a command prints its answer.
type output struct {
	Format string `name:"output" short:"o" enum:",table,json,jsonc,yaml,tsv,none" default:"" help:"How to print: table, json, jsonc (in colour), yaml, tsv or none." placeholder:"FORMAT"`
	Query  string `help:"Print only what this JMESPath query selects." placeholder:"JMESPATH"`
}

// Formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatJSONC = "jsonc"
	formatYAML  = "yaml"
	formatTSV   = "tsv"
	formatNone  = "none"
)

// check compiles the query before anything is done that it could not show.
func (o output) check() error {
	if o.Query == "" {
		return nil
	}
	if _, err := jmespath.Compile(o.Query); err != nil {
		return usage{fmt.Errorf("--query %q: %w", o.Query, err), "see https://jmespath.org; in most shells a query needs quotes"}
	}
	return nil
}

// print writes v, of the API's data, to stdout. byDefault is the format where
// the user asked for none; columns are those of a table.
func (a *app) print(o output, v any, byDefault string, columns []column) error {
	text, err := o.render(v, byDefault, columns)
	if err != nil {
		return err
	}
	if o.Format == formatJSONC && a.colour(a.io.Out) {
		text = paint(text)
	}
	if _, err := a.io.Out.Write(text); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// render is what print writes, without colour.
func (o output) render(v any, byDefault string, columns []column) ([]byte, error) {
	format := o.Format
	switch {
	case format == "" && o.Query != "":
		format = formatJSON
	case format == "":
		format = byDefault
	}
	if format == formatNone {
		return nil, nil
	}
	data, err := marshal(v)
	if err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	if o.Query != "" {
		if data, err = query(o.Query, data); err != nil {
			return nil, err
		}
		columns = nil
	}
	var b bytes.Buffer
	if err := encode(&b, format, data, columns); err != nil {
		return nil, fmt.Errorf("print as %s: %w", format, err)
	}
	return b.Bytes(), nil
}

// query selects from a JSON document.
func query(expression string, data []byte) ([]byte, error) {
	var generic any
	if err := json.Unmarshal(data, &generic); err != nil {
		return nil, fmt.Errorf("--query: %w", err)
	}
	result, err := jmespath.Search(expression, generic)
	if err != nil {
		return nil, usage{fmt.Errorf("--query %q: %w", expression, err), "see https://jmespath.org"}
	}
	return marshal(result)
}

// encode writes a JSON document in a format.
func encode(w io.Writer, format string, data []byte, columns []column) error {
	switch format {
	case formatYAML:
		text, err := yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	case formatTSV, formatTable:
		var generic any
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&generic); err != nil {
			return err
		}
		if format == formatTSV {
			return writeTSV(w, generic)
		}
		return writeTable(w, generic, columns)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(data), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// marshal is json.Marshal without escapes for HTML: people read commands in
// this, such as a > b.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return b.Bytes(), err
}

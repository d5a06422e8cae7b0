package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jmespath/go-jmespath"
)

// column is one of a table: its head, and where its value is in a row.
type column struct{ head, path string }

// writeTable writes a list of objects, or one, as az does: heads, a line under
// each, rows. Without columns there is one for each key whose value is no
// object and no list.
func writeTable(w io.Writer, v any, columns []column) error {
	rows, isList := v.([]any)
	if !isList && v != nil {
		rows = []any{v}
	}
	if len(rows) == 0 {
		return nil
	}
	if columns == nil {
		columns = columnsOf(rows)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells func(column) string) {
		texts := make([]string, len(columns))
		for i, c := range columns {
			texts[i] = cells(c)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
	}
	line(func(c column) string { return c.head })
	line(func(c column) string { return strings.Repeat("-", len(c.head)) })
	for _, row := range rows {
		line(func(c column) string { return oneLine(cell(row, c.path)) })
	}
	return t.Flush()
}

// columnsOf finds the columns of rows that a query has made.
func columnsOf(rows []any) []column {
	heads := map[string]bool{}
	for _, row := range rows {
		switch row := row.(type) {
		case map[string]any:
			for key, value := range row {
				if isScalar(value) {
					heads[key] = true
				}
			}
		case []any:
			var columns []column
			for i := range row {
				columns = append(columns, column{fmt.Sprintf("Column%d", i+1), fmt.Sprintf("[%d]", i)})
			}
			return columns
		default:
			return []column{{"Result", "@"}}
		}
	}
	var columns []column
	for _, key := range slices.Sorted(maps.Keys(heads)) {
		columns = append(columns, column{headOf(key), fmt.Sprintf("%q", key)})
	}
	return columns
}

// headOf makes DisplayName of display_name.
func headOf(key string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(key, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

func cell(row any, path string) string {
	value, err := jmespath.Search(path, row)
	if err != nil || !isScalar(value) {
		return ""
	}
	text := scalar(value)
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at.UTC().Format(time.RFC3339) // people do not count nanoseconds
	}
	return text
}

func isScalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// scalar is a value as a script wants it: bare.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return fmt.Sprint(v)
}

// writeTSV writes as az does: the items of a list on a line each, the values
// of an object, by the order of its keys, or of a list within the list between
// tabs; of what is nested deeper only a list's length. A tab or the end of a
// line within one of several values is a blank, so that nobody can write others'
// cells; a single value stays as it is.
func writeTSV(w io.Writer, v any) error {
	items, isList := v.([]any)
	if !isList {
		if isScalar(v) && v != nil {
			_, err := fmt.Fprintln(w, scalar(v))
			return err
		}
		items = []any{v}
	}
	for _, item := range items {
		var cells []string
		switch item := item.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(item)) {
				cells = append(cells, nested(item[key]))
			}
		case []any:
			for _, value := range item {
				cells = append(cells, nested(value))
			}
		case nil:
			if !isList {
				return nil
			}
			cells = []string{""}
		default:
			cells = []string{scalar(item)}
		}
		for i, cell := range cells {
			cells[i] = strings.Map(bare, cell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// bare makes a blank of what divides cells and lines.
func bare(r rune) rune {
	if strings.ContainsRune("\t\n\v\f\r\u0085\u2028\u2029", r) {
		return ' '
	}
	return r
}

func nested(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return ""
	case []any:
		return fmt.Sprint(len(v))
	}
	return scalar(v)
}

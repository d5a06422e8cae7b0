package relay

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/v1"
)

// TestSearchOverHTTP: lines on pages, the newest of them, and what is refused.
func TestSearchOverHTTP(t *testing.T) {
	s := serve(t, t.TempDir())
	a := s.leadFront(t, "c", s.setUp(t, "c"))
	a.join()
	submit(t, s.running, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	text := ""
	for n := range 5 {
		text += fmt.Sprintf("line %d\n", n)
	}
	a.output(attempt("job", 1), 0, 0, text, true)
	get := func(query url.Values) (found []string) {
		q := client.LogQuery{Grep: query.Get("grep"), Job: query.Get("job")}
		for line, err := range s.client.Logs(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if line.Job != "job" || line.Attempt != 1 || line.Rank != 0 || !line.Time.Equal(at(5).Time) {
				t.Errorf("%+v", line)
			}
			found = append(found, line.Line)
		}
		return found
	}
	all := []string{"line 0", "line 1", "line 2", "line 3", "line 4"}
	if diff := cmp.Diff(all, get(nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all[1:4], get(url.Values{"grep": {"[123]"}, "job": {"job"}})); diff != "" {
		t.Error(diff)
	}

	// Pages lead on with what was asked for.
	query := url.Values{"grep": {"[1-4]"}, "limit": {"2"}, "since": {at(5).Time.Add(-time.Hour).Format(time.RFC3339)}}
	list := s.logs(t, "/v1/logs?"+query.Encode())
	next, err := url.Parse(list.NextLink)
	if err != nil || len(list.Value) != 2 || next.Query().Get("grep") != "[1-4]" || next.Query().Get("since") == "" {
		t.Fatalf("%+v, %v", list, err)
	}
	list = s.logs(t, list.NextLink)
	if list.NextLink != "" || len(list.Value) != 2 || list.Value[1].Line != "line 4" {
		t.Errorf("%+v", list)
	}
	tail, truncated, err := s.client.LogTail(t.Context(), client.LogQuery{Limit: 1})
	if err != nil || truncated || len(tail) != 1 || tail[0].Line != "line 4" {
		t.Errorf("%+v, %v, %v", tail, truncated, err)
	}
	for _, query := range []string{"grep=(", "job=a.b", "tail=1&limit=2", "limit=10001", "cursor=1", "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "what=1"} {
		if status, body := s.request(t, http.MethodGet, "/v1/logs?"+query, s.config.Token, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// logs gets a page.
func (s *served) logs(t *testing.T, path string) (list v1.LogList) {
	t.Helper()
	status, body := s.request(t, http.MethodGet, path, s.config.Token, nil)
	if err := json.Unmarshal(body, &list); status != http.StatusOK || err != nil {
		t.Fatalf("%d %s %v", status, body, err)
	}
	return list
}

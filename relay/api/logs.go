package api

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// LogQuery selects lines of output; an empty field selects all.
type LogQuery struct {
	Grep         *regexp.Regexp
	Job          string
	Since, Until time.Time
	Limit        int
	Tail         bool // the newest, not the oldest
	After        string
}

// LogPage is a part of what is found.
type LogPage struct {
	Lines []v1.LogLine
	Next  string
	Cut   bool // older lines than these were left out
}

type (
	logsInput struct {
		Grep   string    `query:"grep" maxLength:"1000" doc:"a regular expression in the syntax of RE2 that matches the line; (?i) in front ignores case"`
		Job    string    `query:"job" maxLength:"254" doc:"only output of the job of this name"`
		Since  time.Time `query:"since" doc:"only lines that are not older"`
		Until  time.Time `query:"until" doc:"only lines that are not newer"`
		Limit  int       `query:"limit" minimum:"0" maximum:"10000" doc:"lines in a page; 0 for 1000"`
		Tail   int       `query:"tail" minimum:"0" maximum:"10000" doc:"only the newest so many, on one page; not together with limit or cursor"`
		Cursor string    `query:"cursor" maxLength:"100" doc:"of next_link of the page before"`
	}
	logsOutput struct{ Body v1.LogList }
)

func (a *API) logRoute(api huma.API) {
	op := operation(reader, http.MethodGet, "/v1/logs", "search-logs", "Search the output of jobs, oldest first", http.StatusUnprocessableEntity)
	op.Description = "A page takes at most some seconds. Lines come in the order in which their output arrived. A line's time is when the last line was written of those that it was sent with, by its node's clock. Where output was lost, an entry has a gap instead of a line. A line that is longer than 64 KiB is several lines, and bytes that are no UTF-8 are replaced."
	huma.Register(api, op, a.logs)
}

func (a *API) logs(ctx context.Context, in *logsInput) (*logsOutput, error) {
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	found, err := a.opts.Logs.Search(ctx, q)
	if err != nil {
		return nil, a.fail(err)
	}
	list := v1.LogList{Value: found.Lines, Truncated: found.Cut}
	if found.Next != "" {
		list.NextLink = in.nextLink(found.Next)
	}
	return &logsOutput{Body: list}, nil
}

// query checks the input.
func (in *logsInput) query() (LogQuery, error) {
	q := LogQuery{Job: in.Job, Since: in.Since, Until: in.Until, Limit: in.Limit, After: in.Cursor}
	var wrong []error
	detail := func(parameter, message string, value any) {
		wrong = append(wrong, &huma.ErrorDetail{Location: "query." + parameter, Message: message, Value: value})
	}
	if in.Grep != "" {
		var err error
		if q.Grep, err = regexp.Compile(in.Grep); err != nil {
			detail("grep", err.Error(), in.Grep)
		}
	}
	if in.Job != "" {
		if err := protocol.CheckName(in.Job); err != nil {
			detail("job", err.Error(), in.Job)
		}
	}
	if in.Tail > 0 {
		q.Tail, q.Limit = true, in.Tail
		if in.Limit > 0 || in.Cursor != "" {
			detail("tail", "does not go together with limit or cursor", in.Tail)
		}
	}
	if !in.Since.IsZero() && !in.Until.IsZero() && in.Until.Before(in.Since) {
		detail("until", "is before since", in.Until)
	}
	if wrong != nil {
		return q, huma.NewError(http.StatusUnprocessableEntity, "the query is not valid: correct what is listed", wrong...)
	}
	return q, nil
}

// nextLink is the path and query of the next page.
func (in *logsInput) nextLink(cursor string) string {
	values := url.Values{"cursor": {cursor}}
	for name, value := range map[string]string{"grep": in.Grep, "job": in.Job} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": in.Since, "until": in.Until} {
		if !at.IsZero() {
			values.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if in.Limit > 0 {
		values.Set("limit", strconv.Itoa(in.Limit))
	}
	return "/v1/logs?" + values.Encode()
}

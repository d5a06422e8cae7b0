package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// LogQuery selects lines of output; an empty field selects all.
type LogQuery struct {
	Grep, Job    string
	Since, Until time.Time
	Limit        int // lines in all; 0 for no limit
}

// maxLogPage is how many lines are asked for at a time.
const maxLogPage = 2000

// Logs yields lines of output, oldest first. An error is yielded last.
func (c *Client) Logs(ctx context.Context, q LogQuery) iter.Seq2[v1.LogLine, error] {
	return func(yield func(v1.LogLine, error) bool) {
		values := q.values()
		left := q.Limit
		values.Set("limit", strconv.Itoa(maxLogPage))
		if left > 0 {
			values.Set("limit", strconv.Itoa(min(left, maxLogPage)))
		}
		page := path("logs")
		page.RawQuery = values.Encode()
		for page != nil {
			var list v1.LogList
			_, err := c.call(ctx, http.MethodGet, page, nil, &list)
			if err == nil {
				page, err = nextPage(list.NextLink)
			}
			if err != nil {
				yield(v1.LogLine{}, err)
				return
			}
			for _, line := range list.Value {
				if !yield(line, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
		}
	}
}

// LogTail is the newest lines, at most q.Limit, oldest first; truncated where
// the older ones of them were left out.
func (c *Client) LogTail(ctx context.Context, q LogQuery) (lines []v1.LogLine, truncated bool, _ error) {
	values := q.values()
	values.Set("tail", strconv.Itoa(q.Limit))
	page := path("logs")
	page.RawQuery = values.Encode()
	var list v1.LogList
	_, err := c.call(ctx, http.MethodGet, page, nil, &list)
	return list.Value, list.Truncated, err
}

func (q LogQuery) values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{"grep": q.Grep, "job": q.Job} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			values.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return values
}

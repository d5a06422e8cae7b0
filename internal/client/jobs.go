package client

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Submit queues a job. The same job again is the same job, and created false.
func (c *Client) Submit(ctx context.Context, spec protocol.Job) (job v1.Job, created bool, _ error) {
	status, err := c.call(ctx, http.MethodPost, path("jobs"), spec, &job)
	return job, status == http.StatusCreated, err
}

// Job is the job of that name.
func (c *Client) Job(ctx context.Context, name string) (job v1.Job, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("jobs", name), nil, &job)
	return job, err
}

// Cancel asks for the end of a job and returns it as it then is.
func (c *Client) Cancel(ctx context.Context, name string) (job v1.Job, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("jobs", name, "cancel"), nil, &job)
	return job, err
}

// Query selects jobs; an empty field selects all.
type Query struct {
	Status              protocol.State
	Compute, Experiment string
	Limit               int // jobs in all; 0 for no limit
}

// maxPage is what the relay puts into one page, at most.
const maxPage = 500

// Jobs yields jobs, newest first. An error is yielded last.
func (c *Client) Jobs(ctx context.Context, q Query) iter.Seq2[v1.Job, error] {
	return func(yield func(v1.Job, error) bool) {
		page := path("jobs")
		values := url.Values{}
		for name, value := range map[string]string{"status": string(q.Status), "compute": q.Compute, "experiment": q.Experiment} {
			if value != "" {
				values.Set(name, value)
			}
		}
		left := q.Limit
		if left > 0 {
			values.Set("limit", strconv.Itoa(min(left, maxPage)))
		}
		page.RawQuery = values.Encode()
		for page != nil {
			var list v1.JobList
			if _, err := c.call(ctx, http.MethodGet, page, nil, &list); err != nil {
				yield(v1.Job{}, err)
				return
			}
			for _, job := range list.Value {
				if !yield(job, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			next, err := nextPage(list.NextLink)
			if err != nil {
				yield(v1.Job{}, err)
				return
			}
			page = next
		}
	}
}

// nextPage reads a link to the next page; nil for none.
func nextPage(link string) (*url.URL, error) {
	if link == "" {
		return nil, nil
	}
	ref, err := url.Parse(link)
	if err != nil || ref.Host != "" {
		return nil, fmt.Errorf("the relay's link to the next page, %q, is none", link)
	}
	return ref, nil
}

// HasSnapshot reports whether the relay has the code of that digest.
func (c *Client) HasSnapshot(ctx context.Context, digest string) (bool, error) {
	_, err := c.call(ctx, http.MethodHead, path("snapshots", digest), nil, nil)
	if refused := (*APIError)(nil); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// PutSnapshot sends code: the plain tar that write writes, whose digest it
// must have. It is compressed on its way.
func (c *Client) PutSnapshot(ctx context.Context, digest string, write func(io.Writer) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		zip := gzip.NewWriter(w)
		err := write(zip)
		if err == nil {
			err = zip.Close()
		}
		// The request's body ends with it, well or not.
		_ = w.CloseWithError(err)
		written <- err
	}()
	header := http.Header{"Content-Type": {"application/x-tar"}, "Content-Encoding": {"gzip"}}
	resp, err := c.send(ctx, http.MethodPut, path("snapshots", digest), header, r)
	if err == nil {
		err = resp.Body.Close()
	}
	// A relay that has heard enough stops the writing.
	_ = r.CloseWithError(errStopped)
	if cause := <-written; cause != nil && !errors.Is(cause, errStopped) && !errors.Is(cause, io.ErrClosedPipe) {
		return fmt.Errorf("send code: %w", cause)
	}
	return err
}

// errStopped is what writing fails with once nobody reads any more.
var errStopped = errors.New("the relay takes no more")

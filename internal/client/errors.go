package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// APIError is a refusal in the relay's words.
type APIError struct {
	Status    int       // of HTTP
	Title     string    // of the status
	Detail    string    // what happened and what to do
	Problems  []Problem // of the input, one by one
	RequestID string    // under which the relay's log knows the request
}

// Problem is one thing wrong with the input.
type Problem struct {
	Location string `json:"location"` // such as body.command
	Message  string `json:"message"`
}

func (e *APIError) Error() string {
	text := cmp.Or(e.Detail, e.Title)
	for _, p := range e.Problems {
		text += "; " + strings.TrimPrefix(p.Location+": "+p.Message, ": ")
	}
	return fmt.Sprintf("the relay refused (%d): %s", e.Status, text)
}

// UnreachableError says that the relay did not answer.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach the relay at %s: %v", e.URL, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// unreachable explains why there was no answer. Where the caller gave up, the
// error is his.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) {
			return cause
		}
		err = cause
	}
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		record   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		err = fmt.Errorf("%w; the ca of the configuration did not sign its certificate: is it another relay, or does a proxy intercept TLS?", err)
	case errors.As(err, &hostname):
		err = fmt.Errorf("%w; start the relay with --host %s, or use a name that it has", err, c.base.Hostname())
	case errors.As(err, &record):
		err = fmt.Errorf("%w; something else than the relay listens there", err)
	}
	return &UnreachableError{URL: c.base.Redacted(), Err: err}
}

// refusal reads the problem that the relay, or something in between, answered.
func refusal(resp *http.Response) *APIError {
	e := &APIError{
		Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
		RequestID: resp.Header.Get("X-Request-Id"),
	}
	// An answer that breaks off is explained by its status.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	var problem struct {
		Title  string    `json:"title"`
		Detail string    `json:"detail"`
		Errors []Problem `json:"errors"`
	}
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		e.Title, e.Detail, e.Problems = cmp.Or(problem.Title, e.Title), problem.Detail, problem.Errors
		return e
	}
	e.Detail = fmt.Sprintf("%s, and not in the relay's form: does a proxy answer in its place? %.200q", resp.Status, body)
	return e
}

// Package client speaks the relay's HTTP API.
//
// A call returns what the relay answered, an [APIError] with the relay's words
// where it refused, or an [UnreachableError] where there was no answer: then
// whether the call had an effect is not known, and every call may be made
// again. Nothing is retried here but the following of a job's stream, which
// goes on where it broke off. The token goes to the configured URL only, never
// elsewhere by a redirect, and never in the clear.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/dial"
)

// Options of a client.
type Options struct {
	// UserAgent names the program and its version.
	UserAgent string
	// Proxy chooses the proxy of a request; nil for none.
	Proxy func(*http.Request) (*url.URL, error)
	// Pings of its connections, dial.DefaultPings where it is zero: a stream
	// would go on over the one that died under it.
	Pings dial.Pings
}

// Client speaks to one relay. Its methods may be called side by side.
type Client struct {
	base  *url.URL
	token string
	agent string
	http  *http.Client
}

// Bounds of a call.
const (
	callTimeout = time.Minute
	maxAnswer   = 64 << 20 // bytes
	maxRefusal  = 64 << 10
)

// New makes a client; it dials when it is used.
func New(cfg Config, opts Options) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(cfg.URL, "/"))
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("relay's url %q is not a URL such as https://relay.example", cfg.URL)
	}
	if base.Scheme != "https" {
		return nil, fmt.Errorf("relay's url %q does not begin with https://, and the token must not be sent in the clear", cfg.URL)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(cfg.CA)) {
			return nil, errors.New("relay's ca is not a certificate in PEM")
		}
	}
	return &Client{
		base: base, token: cfg.Token, agent: opts.UserAgent,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 opts.Proxy,
				DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSClientConfig:       trust,
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: callTimeout,
				IdleConnTimeout:       time.Minute,
				ForceAttemptHTTP2:     true,
				HTTP2:                 opts.Pings.HTTP2(),
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends in as JSON, unless it is nil, and reads the answer into out,
// unless that is nil. It returns the answer's status.
func (c *Client) call(ctx context.Context, method string, ref *url.URL, in, out any) (status int, _ error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer within %v", callTimeout))
	defer cancel()
	var body io.Reader
	header := http.Header{}
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("%s %s: %w", method, ref, err)
		}
		body = bytes.NewReader(data)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(ctx, method, ref, header, body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if out == nil {
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return 0, c.unreachable(ctx, fmt.Errorf("its answer to %s %s broke off: %w", method, ref.Path, err))
	}
	return resp.StatusCode, nil
}

// send makes a request and returns an answer that is not a refusal. The caller
// closes its body.
func (c *Client) send(ctx context.Context, method string, ref *url.URL, header http.Header, body io.Reader) (*http.Response, error) {
	target := c.base.JoinPath(ref.EscapedPath())
	target.RawQuery = ref.RawQuery
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, ref, err)
	}
	req.Header = header
	req.Header.Set("Authorization", "Bearer "+c.token)
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

// path joins escaped segments under /v1.
func path(segments ...string) *url.URL {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	raw := "/v1/" + strings.Join(escaped, "/")
	return &url.URL{Path: "/v1/" + strings.Join(segments, "/"), RawPath: raw}
}

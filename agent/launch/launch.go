// Package launch is what runs inside a training pod before its command: it
// fetches the code of the attempt from the agent's gateway and unpacks it.
//
// It guarantees that the folder holds exactly the snapshot with the wanted
// digest, or that it fails. What may pass, a gateway or relay that is away or
// busy, a body that breaks off, is tried again from the beginning, with growing
// jittered delays, until its time is over; what cannot get better (the token is
// refused, there is no such code, the archive is hostile or has another digest,
// the disk is full) ends it at once. Errors are for the person who reads the
// pod's termination message. It writes nothing outside the folder, needs no
// particular user, and never follows a redirect with its token.
package launch

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/trainrelay/trainrelay/internal/snapshot"
	"github.com/trainrelay/trainrelay/protocol"
)

// stallTimeout ends a try in which nothing arrives.
const stallTimeout = time.Minute

// Options of a fetch. All are required.
type Options struct {
	URL       string        // of the code, at the gateway
	TokenFile string        // holds the attempt's token
	Digest    string        // of the snapshot
	Dir       string        // exists, and is ours: what it holds is replaced
	Timeout   time.Duration // for everything, all tries together
	Progress  io.Writer     // is told, in lines for people, what is waited for
}

func (o *Options) validate() error {
	var errs []error
	for _, missing := range []struct {
		what string
		is   bool
	}{{"URL", o.URL == ""}, {"token file", o.TokenFile == ""}, {"folder", o.Dir == ""}, {"timeout", o.Timeout <= 0}, {"place for progress", o.Progress == nil}} {
		if missing.is {
			errs = append(errs, errors.New("no "+missing.what))
		}
	}
	return errors.Join(append(errs, protocol.CheckDigest(o.Digest))...)
}

// Fetch puts the code into the folder.
func Fetch(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("fetch code: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the time of %s for it is over", o.Timeout))
	defer cancel()
	transport := &http.Transport{ // no proxy: the gateway is in the cluster
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		ResponseHeaderTimeout: stallTimeout,
		DisableKeepAlives:     true,
	}
	policy := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(500*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1), // 0 to twice the interval
		backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0), // ctx ends it
	), ctx)
	var last error
	err := backoff.RetryNotify(func() error {
		err := fetch(ctx, transport, o)
		if ctx.Err() == nil || last == nil {
			last = err
		}
		return err
	}, policy, func(err error, delay time.Duration) {
		fmt.Fprintf(o.Progress, "waiting for the code: %v; trying again in %s\n", err, delay.Round(100*time.Millisecond))
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("fetch code: %w; at last: %w", context.Cause(ctx), last)
	}
	if err != nil {
		return fmt.Errorf("fetch code: %w", err)
	}
	return nil
}

// fetch tries once. Its error is a *backoff.PermanentError where another try
// is of no use.
func fetch(ctx context.Context, transport http.RoundTripper, o Options) error {
	token, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return backoff.Permanent(fmt.Errorf("read the attempt's token: %w", err))
	}
	if err := empty(o.Dir); err != nil {
		return backoff.Permanent(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL, nil)
	if err != nil {
		return backoff.Permanent(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("cannot reach the gateway at %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	body := &transfer{body: resp.Body, stalled: time.AfterFunc(stallTimeout, func() {
		cancel(fmt.Errorf("nothing arrived for %s", stallTimeout))
	})}
	defer body.stalled.Stop()
	if err := unpack(ctx, body, resp.Header.Get("Content-Encoding"), o); err != nil {
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the transfer stopped after %d bytes: %w", body.bytes, context.Cause(ctx))
		case body.err != nil:
			return fmt.Errorf("the transfer broke off after %d bytes: %w", body.bytes, body.err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return err // cut where HTTP cannot see it
		}
		return backoff.Permanent(err)
	}
	return nil
}

// unpack writes the body, compressed as encoding says, into the folder.
func unpack(ctx context.Context, body io.Reader, encoding string, o Options) error {
	switch encoding {
	case "":
	case "gzip":
		plain, err := gzip.NewReader(body)
		if err != nil {
			return fmt.Errorf("uncompress the code: %w", err)
		}
		defer plain.Close()
		body = plain
	default:
		return fmt.Errorf("the code came compressed as %.40q, which was not asked for", encoding)
	}
	return snapshot.Unpack(ctx, body, o.Dir, o.Digest, snapshot.Limits{})
}

// empty removes what the folder holds: what an earlier try left.
func empty(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder for the code: %w", err)
	}
	defer root.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the folder for the code: %w", err)
	}
	for _, e := range entries {
		if err := root.RemoveAll(e.Name()); err != nil {
			return fmt.Errorf("empty the folder for the code: %w", err)
		}
	}
	return nil
}

// refused is the gateway's answer where it is not the code.
func refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, protocol.MaxReason)) // as much of it as there is
	why := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
	err := fmt.Errorf("the gateway answered %s: %s", resp.Status, why)
	switch {
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return err
	}
	return backoff.Permanent(err)
}

// transfer is a body that remembers how it broke off.
type transfer struct {
	body    io.Reader
	stalled *time.Timer
	bytes   int64
	err     error
}

func (t *transfer) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	t.stalled.Reset(stallTimeout)
	t.bytes += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

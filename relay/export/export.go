// Package export sends the output of jobs on: as OTLP logs over HTTP, to an
// OpenTelemetry Collector or whatever else speaks that protocol.
//
// Each line is sent at least once, those of a rank in their order, and usually
// exactly once: the place is kept only after the collector has accepted what is
// before it, and a new start goes on there. Who stops it waits some seconds for
// the batch that is under way. While the collector is away, or says
// that it is busy or broken, the same batch is tried again for ever, later and
// later, and output waits in the store; what the store had to drop meanwhile is
// logged and counted. A batch that the collector refuses as wrong is logged,
// counted and left out, since it would be refused for ever. Memory is bounded by
// a batch and the chunks read ahead.
package export

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Line is a line of output, or a mark where output was lost.
type Line struct {
	Time    time.Time
	Cluster string
	Job     string
	Attempt int
	Rank    int
	Text    []byte
	Gap     string // why output was lost here; then there is no text
}

// Place is how far output has been sent.
type Place struct{ From, To uint64 }

// Run is a run of output.
type Run struct {
	Lines   []Line
	Place   Place     // behind it
	Taken   time.Time // when it came to the relay
	Behind  uint64    // runs that are there behind it
	Dropped uint64    // runs before it that are lost
}

// Source is where output comes from and the place is kept.
type Source interface {
	// Hold works while no other relay does; the work's context ends with that.
	Hold(ctx context.Context, work func(context.Context) error) error
	// Runs are all behind the place that is kept, and then those that arrive.
	Runs(ctx context.Context) iter.Seq2[Run, error]
	Keep(ctx context.Context, place Place) error
}

// Target is where output goes to.
type Target struct {
	// Endpoint is the URL of OTLP over HTTP, such as https://collector:4318; the
	// signal's path, /v1/logs, is added unless it is there.
	Endpoint string
	Headers  http.Header // sent along, such as Authorization
	TLS      *tls.Config // nil for the system's trust
}

// Options of an exporter.
type Options struct {
	Target
	Source     Source
	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Exporter sends output on while Run runs.
type Exporter struct {
	opts    Options
	url     string
	http    *http.Client
	metrics metrics
}

// sendTimeout is how long the collector may take for a batch.
const sendTimeout = 30 * time.Second

// New checks the options and makes an exporter.
func New(opts Options) (*Exporter, error) {
	target, err := parseEndpoint(opts.Endpoint)
	if err != nil {
		return nil, err
	}
	return &Exporter{
		opts: opts, url: target, metrics: newMetrics(opts.Registerer),
		http: &http.Client{
			Timeout:   sendTimeout,
			Transport: &http.Transport{TLSClientConfig: opts.TLS, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute},
			// The headers are for nobody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// parseEndpoint returns the URL that logs are posted to.
func parseEndpoint(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the OTLP endpoint %q is not a URL such as https://collector.example.com:4318", endpoint)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the OTLP endpoint is a URL without a user, a query or a fragment: credentials go into the file of headers")
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); u.Scheme == "http" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("the OTLP endpoint %q would send output in the clear: give an https:// URL, or an address on 127.0.0.1", endpoint)
	}
	const signal = "/v1/logs"
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), signal) + signal
	return u.String(), nil
}

// Run sends output on until ctx is done. It needs nothing to work at its start.
func (e *Exporter) Run(ctx context.Context) {
	defer e.http.CloseIdleConnections()
	retry := newRetry()
	for {
		err := e.opts.Source.Hold(ctx, func(ctx context.Context) error {
			e.opts.Log.Info().Str("endpoint", e.url).Msg("sending output on")
			retry.Reset()
			return e.ship(ctx)
		})
		if ctx.Err() != nil {
			return
		}
		e.opts.Log.Warn().Err(err).Msg("cannot send output on now; trying again")
		if !wait(ctx, retry.NextBackOff()) {
			return
		}
	}
}

// Bounds of a batch. It may be larger by one run.
const (
	maxLines = 2000
	maxBytes = 1 << 20
	// gather is how long a batch waits for more.
	gather = 200 * time.Millisecond
	// ahead is how many runs are read while a batch is under way.
	ahead = 16
)

// batch is output that is sent, and whose place is kept, together.
type batch struct {
	runs  []Run
	lines int
	bytes int
}

func (b *batch) add(run Run) {
	b.runs = append(b.runs, run)
	b.lines += len(run.Lines)
	for _, line := range run.Lines {
		b.bytes += len(line.Text)
	}
}

func (b *batch) full() bool {
	return b.lines >= maxLines || b.bytes >= maxBytes || len(b.runs) >= maxLines
}

// ship sends batch after batch, until ctx is done or something fails but the
// collector.
func (e *Exporter) ship(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	runs := make(chan Run, ahead)
	var failed error // once runs is closed
	reading.Go(func() {
		defer close(runs)
		for run, err := range e.opts.Source.Runs(ctx) {
			if failed = err; err != nil {
				return
			}
			select {
			case runs <- run:
			case <-ctx.Done():
				return
			}
		}
	})
	for run := range runs {
		b := new(batch)
		b.add(run)
		due := time.NewTimer(gather)
		for more := true; more && !b.full(); {
			select {
			case run, more = <-runs:
				if more {
					b.add(run)
				}
			case <-due.C:
				more = false
			}
		}
		due.Stop()
		if err := e.deliver(ctx, b); err != nil {
			return err
		}
	}
	return failed
}

// deliver sends a batch, until it is accepted or refused, and keeps its place.
func (e *Exporter) deliver(ctx context.Context, b *batch) error {
	last := b.runs[len(b.runs)-1]
	dropped := uint64(0)
	for _, run := range b.runs {
		dropped += run.Dropped
	}
	if dropped > 0 {
		e.metrics.dropped.Add(float64(dropped))
		e.opts.Log.Error().Uint64("chunks", dropped).Msg("output made place for newer before it was sent on: it is lost to the collector")
	}
	e.metrics.behind.Set(float64(last.Behind) + float64(len(b.runs)))
	for _, r := range requests(b.runs) {
		if err := e.send(ctx, r); err != nil {
			return err
		}
	}
	keeping, done := linger(ctx)
	defer done()
	if err := e.opts.Source.Keep(keeping, last.Place); err != nil {
		return err
	}
	e.metrics.behind.Set(float64(last.Behind))
	return nil
}

// newRetry is the delay between tries, which never end.
func newRetry() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(30*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// lastWords is how long what is under way may go on when ctx is done: a batch
// that is accepted, and its place not kept, comes twice.
const lastWords = 3 * time.Second

// linger is a context that ends a little after ctx.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, func() {
		wait(later, lastWords)
		cancel()
	})
	return later, func() { detach(); cancel() }
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

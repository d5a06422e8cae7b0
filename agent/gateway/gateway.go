package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
)

const (
	defaultFetches = 32
	maxHeader      = 8 << 10
	headerTimeout  = 10 * time.Second
	// stallTimeout ends a transfer in which nothing moves.
	stallTimeout = time.Minute
	// drainTimeout is how long transfers may go on once the agent stops.
	drainTimeout = 10 * time.Second
)

// Options are what a Gateway is made of. All but those with a default and
// Registerer are required.
type Options struct {
	Relay     *url.URL          // the relay's root
	Transport http.RoundTripper // to the relay, through the site's proxy
	// Authorize adds the agent's credential to a request to the relay.
	Authorize  func(*http.Request) error
	Tokens     *Tokens
	Fetches    int // at a time; 32 by default
	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Gateway serves training pods.
type Gateway struct {
	opts    Options
	slots   chan struct{} // one per fetch under way
	fetches *prometheus.CounterVec
}

// New checks the options and makes a Gateway.
func New(o Options) (*Gateway, error) {
	var errs []error
	if o.Relay == nil || o.Relay.Host == "" {
		errs = append(errs, errors.New("no URL of the relay"))
	}
	if o.Transport == nil {
		errs = append(errs, errors.New("no transport to the relay"))
	}
	if o.Authorize == nil {
		errs = append(errs, errors.New("no credential for the relay"))
	}
	if o.Tokens == nil {
		errs = append(errs, errors.New("no tokens"))
	}
	if o.Fetches == 0 {
		o.Fetches = defaultFetches
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("gateway: options: %w", err)
	}
	return &Gateway{
		opts:  o,
		slots: make(chan struct{}, o.Fetches),
		fetches: promauto.With(o.Registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_gateway_fetches_total",
			Help: "Requests of training pods for code, by HTTP status; broken for a body that broke off.",
		}, []string{"status"}),
	}, nil
}

// Handler serves the paths of the gateway.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/attempts/{job}/{attempt}/code", g.code)
	return mux
}

// Serve answers requests from the listener, which it closes, until ctx is
// done. Transfers under way then have a few seconds to finish.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           g.Handler(),
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
	}
	server.SetKeepAlivesEnabled(false) // a pod comes once
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		stopped <- errors.Join(server.Shutdown(drain), server.Close())
	})
	err := server.Serve(listener)
	if stop() { // it failed by itself
		return fmt.Errorf("gateway: serve on %s: %w", listener.Addr(), err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("gateway: stop: %w", err)
	}
	return nil
}

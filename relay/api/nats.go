package api

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// natsProxy forwards agents' WebSockets to the broker, which authenticates
// them. The way does not use the machine's proxy settings.
func (a *API) natsProxy() (http.Handler, error) {
	if a.opts.Broker == "" {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			problem(w, http.StatusNotFound, "agents of this relay connect to its NATS server directly: set the chart's relay.natsURL, or start the relay with --nats-websocket to let them in here, too")
		}), nil
	}
	target, err := url.Parse(a.opts.Broker)
	if err != nil {
		return nil, fmt.Errorf("the broker's address: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig: a.opts.BrokerTLS, TLSHandshakeTimeout: 5 * time.Second, DisableKeepAlives: true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.URL.Path, r.Out.URL.RawPath, r.Out.URL.RawQuery = "/", "", ""
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			a.opts.Log.Warn().Err(err).Msg("cannot forward an agent to the broker")
			problem(w, http.StatusServiceUnavailable, "the broker does not answer: try again in some seconds")
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			problem(w, http.StatusUpgradeRequired, "this is where agents connect with a WebSocket over HTTP/1.1; does a proxy drop the header Upgrade?")
			return
		}
		if wait, ok := a.upgrades.take(r.RemoteAddr); !ok {
			slow(w, http.StatusServiceUnavailable, wait, "too many agents connect at once")
			return
		}
		ctx, end, err := a.begin(r.Context())
		if err != nil {
			w.Header().Set("Retry-After", "5")
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		defer end()
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}), nil
}

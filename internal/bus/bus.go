// Package bus is an agent's connection to its relay: one WebSocket, or one
// connection to an external NATS cluster, that is opened through the site's
// proxy and kept for as long as the process lives.
//
// It guarantees that a lost or refused connection is tried again for ever,
// with waits that grow and are random, so that many agents do not come back at
// once; that no attempt, ping or write hangs; and that nothing is buffered
// while there is no connection: requests fail then, at once and saying why, and
// trying again is the caller's part. Subscriptions outlive reconnects, messages
// in between are lost.
//
// What keeps the connection from coming up is never fatal. It is told to
// [Options.OnState], kept as [Conn.LastError] and logged: each cause once a
// minute, so that what fails all day fills no disk.
package bus

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

const (
	defaultTimeout  = 10 * time.Second
	defaultMaxDelay = 30 * time.Second

	// Some proxies cut what is idle for 5 s. Five pings without answer in a row:
	// a dead connection is noticed within half a minute, and one that is only
	// slow is kept.
	pingInterval = 4 * time.Second
	maxPings     = 5
)

// Dialer opens connections; *dial.Dialer is one. It bounds each by itself.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	DialTLS(ctx context.Context, addr string, config *tls.Config) (net.Conn, error)
}

// Options of a connection.
type Options struct {
	// URL is wss://host[:port][/path] with path /nats when missing, or tls://
	// or nats://host[:port] of a NATS server; ws:// is for tests on loopback.
	URL    string
	Dialer Dialer
	// TLS verifies the relay; nil trusts what the dialer trusts for wss, and
	// the system's roots for tls.
	TLS *tls.Config
	// Nkey is the public key that Sign signs with; both may be missing.
	Nkey string
	Sign func(nonce []byte) (signature []byte, err error)
	// InboxPrefix is the one prefix of subjects where answers may be received;
	// empty for NATS's own.
	InboxPrefix string
	// Name is shown in the server's list of connections.
	Name string
	// Timeout bounds what follows a dial until the connection is there, and
	// each write; 0 for 10 s.
	Timeout time.Duration
	// MaxDelay bounds the wait between two attempts; 0 for 30 s.
	MaxDelay time.Duration
	Log      zerolog.Logger
	// OnState is called, one call after the other, when the connection came
	// up, was lost, and after each attempt that failed; first before Connect
	// returns. It must not block and not call Close.
	OnState func(connected bool, err error)
}

// Conn is a connection that is up or being tried.
type Conn struct {
	opts        Options
	log         zerolog.Logger
	nc          *nats.Conn
	speaksNATS  bool // no WebSocket: the server speaks first
	stopDialing context.CancelFunc
	made        chan struct{} // closed when nc is set
	told        chan struct{} // closed after the first report
	tellOnce    sync.Once
	closed      chan struct{}

	mu        sync.Mutex
	connected bool
	dialErr   error // of the last dial; nats.go hides some of them
	answer    int   // HTTP status of the last answer to the opening of a WebSocket
	err       error
	reporting sync.Mutex // one report after the other
	news      news
}

// Connect makes one attempt and returns a connection that is up or, where that
// attempt failed, will be tried until Close. Errors are of the options, or the
// context's, which counts for this call only.
func Connect(ctx context.Context, opts Options) (*Conn, error) {
	at, err := parseEndpoint(opts.URL)
	if err != nil {
		return nil, err
	}
	if opts.Dialer == nil {
		return nil, errors.New("bus: no dialer given")
	}
	opts.Timeout = cmp.Or(opts.Timeout, defaultTimeout)
	opts.MaxDelay = cmp.Or(opts.MaxDelay, defaultMaxDelay)

	dialing, stopDialing := context.WithCancel(context.WithoutCancel(ctx))
	c := &Conn{
		opts:        opts,
		log:         opts.Log.With().Str("relay", at.String()).Logger(),
		speaksNATS:  at.path == "",
		stopDialing: stopDialing,
		made:        make(chan struct{}),
		told:        make(chan struct{}),
		closed:      make(chan struct{}),
	}
	forget := context.AfterFunc(ctx, stopDialing)
	c.nc, err = nats.Connect(at.natsURL(), c.options(at, c.dialer(dialing, at))...)
	if err != nil {
		forget()
		stopDialing()
		return nil, fmt.Errorf("bus: %w", err)
	}
	close(c.made)
	select {
	case <-c.told:
	case <-ctx.Done():
	}
	if !forget() {
		c.Close()
		return nil, fmt.Errorf("connect to the relay: %w", ctx.Err())
	}
	return c, nil
}

func (c *Conn) options(at endpoint, dialer nats.CustomDialer) []nats.Option {
	options := []nats.Option{
		nats.Name(c.opts.Name),
		nats.SetCustomDialer(dialer),
		nats.SkipHostLookup(), // the proxy resolves names
		nats.IgnoreDiscoveredServers(),
		nats.Timeout(c.opts.Timeout),
		nats.FlusherTimeout(c.opts.Timeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(), // a key may be allowed later
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(c.delay),
		nats.ConnectHandler(func(*nats.Conn) { c.up() }),
		nats.ReconnectHandler(func(*nats.Conn) { c.up() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.down(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.down(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.log.Warn().Err(err).Msg("the relay complains")
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			c.report(false, nats.ErrConnectionClosed)
			close(c.closed)
		}),
	}
	if c.opts.Nkey != "" {
		options = append(options, nats.Nkey(c.opts.Nkey, c.opts.Sign))
	}
	if c.opts.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(c.opts.InboxPrefix))
	}
	if at.path != "" {
		options = append(options, nats.ProxyPath(at.path))
	}
	if at.scheme == "tls" {
		options = append(options, nats.Secure(cmp.Or(c.opts.TLS, &tls.Config{MinVersion: tls.VersionTLS12})))
	}
	return options
}

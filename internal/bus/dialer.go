package bus

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// dialFunc is a nats.CustomDialer.
type dialFunc func(network, addr string) (net.Conn, error)

func (f dialFunc) Dial(network, addr string) (net.Conn, error) { return f(network, addr) }

// dialer dials for nats.go until ctx is done, and keeps the error.
func (c *Conn) dialer(ctx context.Context, at endpoint) nats.CustomDialer {
	var config *tls.Config
	if c.opts.TLS != nil {
		config = c.opts.TLS.Clone()
		config.NextProtos = nil // a WebSocket begins as HTTP/1.1
	}
	return dialFunc(func(network, addr string) (conn net.Conn, err error) {
		if at.scheme == "wss" {
			conn, err = c.opts.Dialer.DialTLS(ctx, addr, config)
		} else {
			conn, err = c.opts.Dialer.DialContext(ctx, network, addr)
		}
		c.mu.Lock()
		c.dialErr, c.answer = err, 0
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if at.path != "" {
			conn = c.noteAnswer(conn)
		}
		// For the writes until nats.go sets deadlines of its own.
		return conn, conn.SetDeadline(time.Now().Add(c.opts.Timeout))
	})
}

// minDelay is what the longest possible wait starts from.
const minDelay = 250 * time.Millisecond

// delay is the wait before the n-th attempt, from 1. nats.go calls it after
// every failure; that of a handshake it tells nobody else.
func (c *Conn) delay(n int) time.Duration {
	<-c.made
	if err := c.nc.LastError(); err != nil {
		c.down(err)
	}
	return jitter(n, c.opts.MaxDelay)
}

// jitter is a random wait, up to twice as long with each attempt ("full
// jitter").
func jitter(n int, most time.Duration) time.Duration {
	ceiling := min(minDelay<<min(n, 20), most)
	return rand.N(ceiling) + 1
}

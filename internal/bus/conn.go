package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
)

// Request sends data and waits for the answer until ctx is done, for which it
// should have a deadline. Without a connection it fails at once.
func (c *Conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if connected, err := c.State(); !connected {
		// nats.go would make it wait for a dial in progress.
		return nil, fmt.Errorf("not connected to the relay: %w", err)
	}
	answer, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, fmt.Errorf("request %s of the relay: %w", subject, err)
	}
	return answer.Data, nil
}

// Subscribe calls received for every message on the subject, one after the
// other, until stop is called.
func (c *Conn) Subscribe(subject string, received func()) (stop func(), err error) {
	subscription, err := c.nc.Subscribe(subject, func(*nats.Msg) { received() })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = subscription.Unsubscribe() }, nil // it fails on a closed connection only
}

// State says whether the connection is up and, if not, why.
func (c *Conn) State() (connected bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, c.err
}

// LastError is why there is no connection; nil while there is one.
func (c *Conn) LastError() error {
	_, err := c.State()
	return err
}

// Close ends the connection, or the attempts, and waits until OnState was
// called for the last time. It may be called more than once.
func (c *Conn) Close() {
	c.stopDialing() // which nats.go would wait for
	c.nc.Close()
	<-c.closed
}

// up reports that the connection is there.
func (c *Conn) up() {
	c.news.back(c.log)
	c.report(true, nil)
}

// down reports that the connection was lost, or an attempt failed.
func (c *Conn) down(err error) {
	c.mu.Lock()
	if c.dialErr != nil {
		err = c.dialErr
	}
	c.mu.Unlock()
	if err = c.explain(err); !errors.Is(err, nats.ErrConnectionClosed) {
		c.news.lost(c.log, err)
	}
	c.report(false, err)
}

func (c *Conn) report(connected bool, err error) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	c.mu.Lock()
	c.connected, c.err = connected, err
	c.mu.Unlock()
	if c.opts.OnState != nil {
		c.opts.OnState(connected, err)
	}
	c.tellOnce.Do(func() { close(c.told) })
}

// explain adds to errors of nats.go what they mean here.
func (c *Conn) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled): // only Close does that
		return nats.ErrConnectionClosed
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("the relay does not accept the key %s: "+
			"it is of no cluster there, or no longer of one: `trainrelay cluster connect` gives the cluster a new one (%w)", c.opts.Nkey, err)
	case errors.Is(err, nats.ErrAuthExpired):
		return fmt.Errorf("the connection has lived for as long as the relay lets one live; connecting anew (%w)", err)
	case errors.Is(err, nats.ErrStaleConnection):
		return fmt.Errorf("the relay does not answer pings any more: %w", err)
	case strings.Contains(err.Error(), "invalid websocket connection"), strings.HasPrefix(err.Error(), "malformed HTTP"):
		c.mu.Lock()
		status := c.answer
		c.mu.Unlock()
		return errors.New(notRelay(status)) // the error may quote whatever was sent
	case c.speaksNATS && timedOut(err):
		return fmt.Errorf("the connection is open and no NATS server speaks: the port may be another's, "+
			"or a proxy intercepts TLS, which only a relay's https:// address gets through: %w", err)
	}
	return err
}

func timedOut(err error) bool {
	var slow net.Error
	return errors.As(err, &slow) && slow.Timeout()
}

package link

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// OverNATS makes a connection to NATS the link's.
func OverNATS(nc *nats.Conn) Conn { return natsConn{nc} }

type natsConn struct{ nc *nats.Conn }

func (c natsConn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	msg, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

func (c natsConn) Subscribe(subject string, received func()) (func(), error) {
	sub, err := c.nc.Subscribe(subject, func(*nats.Msg) { received() })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only where the connection is closed
}

package check

import (
	"context"
	"crypto/x509"
	"errors"
)

// websocket connects to the broker as the agent does: by a WebSocket at the
// relay, or to its NATS server where the agent is told of one.
func (c *checker) websocket(ctx context.Context) (string, error) {
	if c.nats != "" {
		return c.natsServer(ctx)
	}
	if err := c.o.Connect(ctx); err != nil {
		return "", undialed(err, "the proxy has to let WebSockets to "+c.addr+" through: the header Upgrade allowed, the connection not cut; or exempt that host from TLS inspection")
	}
	return "connected " + c.way(c.addr) + ", and closed again", nil
}

// natsServer is another place than the relay, to which the checks before have
// not gone: its name and its way are looked at first.
func (c *checker) natsServer(ctx context.Context) (string, error) {
	if _, err := c.resolve(ctx, c.nats, "NATS server", "relay.natsURL"); err != nil {
		return "", err
	}
	if err := c.o.Connect(ctx); err != nil {
		carries := "TLS that is not HTTPS to " + c.nats + ", and not look into it"
		if c.o.NATS.Scheme == "nats" {
			carries = "connections that are not HTTP to " + c.nats
		}
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
			return "", &fault{err, "add the certificate of who vouches for " + c.nats + ", or of a proxy that looks into TLS, to relay.caBundle (--relay-ca-file)"}
		}
		return "", undialed(err, "the firewall, or the proxy, has to let through "+carries+
			"; is relay.natsURL the server's address? Without it the agent connects by a WebSocket at the relay")
	}
	return "connected " + c.way(c.nats) + " to " + c.o.NATS.Scheme + "://" + c.nats + ", and closed again", nil
}

package bus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// defaultPath is where a relay takes agents' WebSockets.
const defaultPath = "/nats"

// endpoint is a checked URL of a relay.
type endpoint struct {
	scheme string
	addr   string // host:port
	path   string // of WebSockets, else empty
}

// parseEndpoint checks a URL. Its errors do not quote it: somebody may have put
// credentials into it.
func parseEndpoint(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, errors.New("relay's address: not a URL; expected wss://host[:port][/path]")
	}
	port := map[string]string{"wss": "443", "ws": "80", "tls": "4222", "nats": "4222"}[u.Scheme]
	switch {
	case port == "":
		return endpoint{}, fmt.Errorf("relay's address: scheme %q is none of wss, tls, nats", u.Scheme)
	case u.Hostname() == "":
		return endpoint{}, errors.New("relay's address: the host is missing; expected wss://host[:port][/path]")
	case u.User != nil:
		return endpoint{}, errors.New("relay's address: no user or password belongs there; an agent proves who it is with its key")
	case u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, errors.New("relay's address: nothing may follow the path")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	e := endpoint{scheme: u.Scheme, addr: net.JoinHostPort(u.Hostname(), port)}
	root := u.Path == "" || u.Path == "/"
	switch {
	case u.Scheme == "wss" || u.Scheme == "ws":
		e.path = u.EscapedPath()
		if root {
			e.path = defaultPath
		}
	case !root:
		return endpoint{}, fmt.Errorf("relay's address: a path is of no use with %s://", u.Scheme)
	}
	return e, nil
}

func (e endpoint) String() string { return e.scheme + "://" + e.addr + e.path }

// natsURL is the URL for nats.go. To it wss is ws, since the dialer does the
// TLS: nats.go's own handshake has no deadline and its errors no hints.
func (e endpoint) natsURL() string {
	if e.scheme == "wss" {
		return "ws://" + e.addr
	}
	return e.scheme + "://" + e.addr
}

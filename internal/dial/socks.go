package dial

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"
)

// dialSOCKS opens a tunnel to addr through a SOCKS5 proxy, which resolves the
// name.
func (d *Dialer) dialSOCKS(ctx context.Context, server *url.URL, addr string) (net.Conn, error) {
	var auth *proxy.Auth
	if server.User != nil {
		password, _ := server.User.Password()
		auth = &proxy.Auth{User: server.User.Username(), Password: password}
	}
	reach := &reach{dialer: &d.net}
	socks, err := proxy.SOCKS5("tcp", server.Host, auth, reach)
	if err != nil {
		return nil, &Error{Stage: StageTunnel, Err: err}
	}
	conn, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
	switch {
	case err == nil:
		return conn, nil
	case reach.err != nil:
		return nil, reach.err
	case strings.Contains(err.Error(), "authentication"):
		hint := "the proxy wants user and password: put them into its URL, socks5://user:password@host:port"
		if auth != nil {
			hint = "the proxy does not accept the user and password of its URL"
		}
		return nil, &Error{Stage: StageProxyAuth, Hint: hint, Err: reason(err)}
	default:
		return nil, &Error{Stage: StageTunnel, Err: reason(err)}
	}
}

// reason is the error without the addresses that package socks puts around it.
func reason(err error) error {
	if op := new(net.OpError); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// reach dials the proxy and keeps the error of that, to tell it from the
// proxy's own.
type reach struct {
	dialer *net.Dialer
	err    error
}

func (r *reach) Dial(network, addr string) (net.Conn, error) {
	return r.DialContext(context.Background(), network, addr)
}

func (r *reach) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := r.dialer.DialContext(ctx, network, addr)
	r.err = err
	return conn, err
}

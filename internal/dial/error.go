package dial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Stage is the step of opening a connection that failed.
type Stage string

const (
	// StageResolve is the look-up of the proxy's name, or of the target's when
	// dialled directly.
	StageResolve Stage = "resolve"
	// StageConnect is the TCP connection to the proxy or the target.
	StageConnect Stage = "connect"
	// StageProxyTLS is the TLS handshake with the proxy.
	StageProxyTLS Stage = "proxy-tls"
	// StageProxyAuth is the proxy's check of user and password.
	StageProxyAuth Stage = "proxy-auth"
	// StageTunnel is everything else between asking the proxy for the target
	// and getting there.
	StageTunnel Stage = "tunnel"
	// StageTLS is the TLS handshake with the target.
	StageTLS Stage = "tls"
)

// Error says why a connection could not be opened.
type Error struct {
	Stage  Stage
	Target string // host:port
	Proxy  string // the proxy's URL without user and password; empty when dialled directly
	Status int    // of the proxy's answer to CONNECT; 0 without one
	Hint   string // what to do about it; may be empty
	Err    error
}

// Error is one line: target, route, cause, hint.
func (e *Error) Error() string {
	var b strings.Builder
	target := strconv.Quote(e.Target) // a line break stays in line
	b.WriteString("dial " + target[1:len(target)-1])
	if e.Proxy != "" {
		b.WriteString(" through proxy " + e.Proxy)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the other side was too slow.
func (e *Error) Timeout() bool {
	return errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.Is(e.Err, context.DeadlineExceeded)
}

// explain completes an error with where it happened and what to do.
func (d *Dialer) explain(ctx context.Context, addr string, err error) error {
	e := new(Error)
	if !errors.As(err, &e) {
		e = &Error{Stage: StageConnect, Err: err}
		if name := new(net.DNSError); errors.As(err, &name) {
			e.Stage = StageResolve
		}
	}
	e.Target = addr
	if proxy := d.proxyFor(addr); proxy != nil {
		e.Proxy = shown(proxy)
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Err, e.Hint = context.Canceled, ""
		return e
	case e.Timeout():
		e.Err = fmt.Errorf("no answer in time: %w", e.Err)
	}
	e.Hint = cmp.Or(e.Hint, hint(e))
	return e
}

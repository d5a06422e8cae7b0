package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// maxAnswer bounds the head of a proxy's answer to CONNECT.
const maxAnswer = 16 << 10

// dialCONNECT opens a tunnel to addr through an HTTP proxy.
func (d *Dialer) dialCONNECT(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	conn, err := d.net.DialContext(ctx, "tcp", proxy.Host)
	if err != nil {
		return nil, err
	}
	release := bind(ctx, conn)
	tunnel, err := d.tunnel(ctx, conn, proxy, addr)
	if cut := release(); err == nil && cut {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// tunnel makes a tunnel of a connection to the proxy.
func (d *Dialer) tunnel(ctx context.Context, conn net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		config := d.proxyTLS.Clone()
		config.ServerName = proxy.Hostname()
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, &Error{Stage: StageProxyTLS, Err: err}
		}
		conn = secured
	}
	return connect(conn, proxy.User, addr)
}

// connect asks the proxy at the other end of conn for a tunnel to addr.
func connect(conn net.Conn, user *url.Userinfo, addr string) (net.Conn, error) {
	request := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: addr},
		Host:   addr,
		Header: http.Header{"User-Agent": {"trainrelay"}},
	}
	if user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return nil, &Error{Stage: StageTunnel, Err: fmt.Errorf("ask the proxy for a tunnel: %w", err)}
	}
	limited := &io.LimitedReader{R: conn, N: maxAnswer}
	reader := bufio.NewReader(limited)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, &Error{Stage: StageTunnel, Err: unreadable(err, limited.N == 0)}
	}
	if answer.StatusCode/100 != 2 {
		return nil, refusal(answer, user != nil)
	}
	// The body is the tunnel, whatever the header says of its length. Servers
	// that speak first may have spoken already, behind the answer.
	early, err := reader.Peek(reader.Buffered())
	if err != nil {
		return nil, &Error{Stage: StageTunnel, Err: err}
	}
	if len(early) == 0 {
		return conn, nil
	}
	return &earlyConn{Conn: conn, early: early}, nil
}

// unreadable is the error for an answer that could not be read. What net/http
// says of a malformed one quotes it, and it may echo the request with its
// credentials, so that is left out.
func unreadable(err error, tooLong bool) error {
	var netError net.Error
	switch {
	case tooLong:
		return fmt.Errorf("the proxy's answer has more than %d bytes of header", maxAnswer)
	case errors.As(err, &netError):
		return fmt.Errorf("read the proxy's answer: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the proxy closed the connection in place of an answer: %w", io.ErrUnexpectedEOF)
	default:
		return errNotHTTP
	}
}

var errNotHTTP = errors.New("what the proxy answered is not HTTP")

// squidError is the form of the one header that says more than the status. Its
// text is checked since nothing that a stranger sends goes into messages as is.
var squidError = regexp.MustCompile(`^ERR_[A-Z_]{1,40}( [0-9]{1,5})?$`)

// refusal is the error for an answer that opens no tunnel.
func refusal(answer *http.Response, withUser bool) error {
	status := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if detail := answer.Header.Get("X-Squid-Error"); squidError.MatchString(detail) {
		status += " (" + detail + ")"
	}
	e := &Error{Stage: StageTunnel, Status: answer.StatusCode, Err: fmt.Errorf("the proxy answered %s", status)}
	switch answer.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusUnauthorized: // tinyproxy answers wrong passwords with 401
		e.Stage = StageProxyAuth
		e.Hint = "the proxy wants user and password: put them into its URL, http://user:password@host:port"
		if withUser {
			e.Hint = "the proxy does not accept the user and password of its URL"
		}
	case http.StatusForbidden:
		e.Hint = hintRefused
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest, http.StatusNotFound:
		e.Hint = "is this address a proxy, and does it allow CONNECT?"
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Hint = hintUnreached
	}
	return e
}

// earlyConn is a connection of which some bytes were read already.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	if len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}

// bind makes what is done on conn end with the context. Release undoes that,
// and reports whether the context has ended before.
func bind(ctx context.Context, conn net.Conn) (release func() (cut bool)) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() bool {
		if !stop() {
			return true
		}
		_ = conn.SetDeadline(time.Time{})
		return false
	}
}

package dial

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"syscall"
)

// Hints for what CONNECT and SOCKS say in their own ways.
const (
	hintRefused   = "ask who runs the proxy to allow CONNECT to the target, or list it in no-proxy if it can be reached directly"
	hintUnreached = "the proxy cannot reach the target: does it resolve the target's name, and may it go out to this port?"
)

// hint says what people can do about an error that brought no hint of its own.
func hint(e *Error) string {
	if e.Stage == StageTLS || e.Stage == StageProxyTLS {
		return tlsHint(e)
	}
	if e.Proxy == "" {
		return directHint(e)
	}
	switch {
	case e.Stage == StageResolve:
		return "the proxy's name does not resolve here: check the proxy setting and this machine's DNS"
	case e.Stage == StageConnect && errors.Is(e.Err, syscall.ECONNREFUSED):
		return "nothing listens at the proxy's address: is the proxy running, is the port right?"
	case e.Stage == StageConnect:
		return "the proxy cannot be reached from here: check the proxy setting and the firewall"
	case errors.Is(e.Err, errNotHTTP):
		return "is this address an HTTP proxy? One that is reached by TLS has a URL that begins with https://"
	case errors.Is(e.Err, io.ErrUnexpectedEOF), errors.Is(e.Err, syscall.ECONNRESET), errors.Is(e.Err, syscall.EPIPE):
		return "the proxy may refuse this machine, or be one that is reached by TLS (its URL begins with https:// then)"
	case e.Timeout():
		return "the proxy took the connection but opened no tunnel: can it reach the target?"
	case strings.Contains(e.Err.Error(), "not allowed by ruleset"):
		return hintRefused
	case strings.Contains(e.Err.Error(), "protocol version"):
		return "is this address a SOCKS5 proxy?"
	case strings.HasPrefix(e.Proxy, "socks5"): // its answers: a failure, unreachable, refused
		return hintUnreached
	}
	return ""
}

func directHint(e *Error) string {
	switch {
	case e.Stage == StageResolve:
		return "check the name; where names and addresses outside are known only to a proxy, set HTTPS_PROXY"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "nothing listens at this address: is the other side running, is the port right?"
	case e.Timeout(), errors.Is(e.Err, syscall.ENETUNREACH), errors.Is(e.Err, syscall.EHOSTUNREACH):
		return "a firewall may be in between; where the way out is a proxy, set HTTPS_PROXY"
	}
	return ""
}

func tlsHint(e *Error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(e.Err, &authority) && e.Stage == StageProxyTLS:
		return "the proxy's certificate is of a CA that is unknown here: give it as the proxy's CA"
	case errors.As(e.Err, &authority):
		return "the certificate is of a CA that is unknown here: give the CA of the target, or of the proxy if that one intercepts TLS"
	case errors.As(e.Err, &name):
		return "the certificate is for another name: check the address"
	case errors.As(e.Err, &record) && e.Stage == StageProxyTLS:
		return "the proxy does not speak TLS at this port: its URL should begin with http://"
	case errors.As(e.Err, &record):
		return "the target does not speak TLS at this port"
	}
	return ""
}

package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The clock may differ from the relay's by as much: signed requests are
// refused somewhat above.
const (
	clockWarns = 30 * time.Second
	clockFails = 60 * time.Second
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 10

// tls looks at the relay's certificate, whoever vouches for it.
func (c *checker) tls(ctx context.Context) (string, error) {
	if c.o.Relay.Scheme != "https" {
		return "none: the relay's URL is " + c.o.Relay.Scheme + "://, which is for tests only", nil
	}
	config := c.dialer.TLSConfig()
	roots := config.RootCAs
	config.InsecureSkipVerify = true // judged below, with better words
	config.ServerName = c.o.Relay.Hostname()
	conn, err := c.dialer.DialTLS(ctx, c.addr, config)
	if err != nil {
		return "", undialed(err, "a proxy or firewall that lets the connection through may cut TLS: ask who runs it to allow TLS to "+c.addr)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if err := c.verify(chain, roots); err != nil {
		return "", c.untrusted(chain[0], err)
	}
	found := fmt.Sprintf("the certificate is signed by %s, until %s", issuer(chain[0]), chain[0].NotAfter.UTC().Format(time.DateOnly))
	own := x509.NewCertPool()
	switch {
	case !own.AppendCertsFromPEM(c.o.Authority): // not known, or a public one
	case c.verify(chain, own) == nil:
		found += ", the relay's own authority"
	default:
		found += ", which is not the relay's own authority: a proxy on the way looks into TLS, and is trusted here"
	}
	return found, nil
}

// verify judges a chain by roots; nil for the system's.
func (c *checker) verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: c.o.Relay.Hostname(), Roots: roots, Intermediates: between, CurrentTime: c.o.Now(),
	})
	return err
}

// untrusted makes a fault of a certificate that does not do.
func (c *checker) untrusted(leaf *x509.Certificate, err error) error {
	const noRelay = "the certificate of %s, signed by %s, is not trusted: %w"
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	fix := "if that is a proxy's authority, which looks into TLS, add its certificate to relay.caBundle (--relay-ca-file); if the relay has another authority now, give that one there"
	switch {
	case errors.As(err, &name):
		names := append([]string{}, leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		fix = fmt.Sprintf("set relay.url to a name that the certificate has (%s), or start the relay with --host %s", strings.Join(names, ", "), c.o.Relay.Hostname())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		fix = fmt.Sprintf("it is good from %s to %s and here it is %s: renew it at the relay, or set the clock of this node right",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), c.o.Now().UTC().Format(time.RFC3339))
	}
	return faulty(fix, noRelay, c.addr, issuer(leaf), err)
}

// issuer names who signed a certificate.
func issuer(leaf *x509.Certificate) string {
	return cmp.Or(leaf.Issuer.CommonName, leaf.Issuer.String(), "nobody")
}

// get asks the relay for a path.
func (c *checker) get(ctx context.Context, path string, authorize func(*http.Request) error) (answer *http.Response, body []byte, err error) {
	at := url.URL{Scheme: c.o.Relay.Scheme, Host: c.o.Relay.Host, Path: path}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	if authorize != nil {
		if err := authorize(request); err != nil {
			return nil, nil, err
		}
	}
	transport := c.dialer.Transport()
	defer transport.CloseIdleConnections()
	answer, err = transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return nil, nil, undialed(err, "the relay did not answer: is it running?")
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer)); err != nil {
		return nil, nil, faulty("the relay began an answer and did not end it: is it, or a proxy on the way, overloaded?", "read the answer to %s: %w", path, err)
	}
	return answer, body, nil
}

// relay asks whether somebody there is a relay, and for the time.
func (c *checker) relay(ctx context.Context) (string, error) {
	before := c.o.Now()
	answer, body, err := c.get(ctx, "/healthz", nil)
	if err != nil {
		return "", err
	}
	took := c.o.Now().Sub(before)
	if answer.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != "ok" {
		return "", faulty("is relay.url the relay's address? The login page of a network, or a proxy's message, may be answering in its place",
			"what answers at %s is not a relay: HTTP %d", c.o.Relay.Host, answer.StatusCode)
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		// The header has whole seconds, and was written halfway.
		c.offset, c.timed = date.Add(500*time.Millisecond).Sub(before.Add(took/2)), true
	}
	return fmt.Sprintf("answers in %s", took.Round(time.Millisecond)), nil
}

// clock compares the relay's time with the one here.
func (c *checker) clock(context.Context) (string, error) {
	if !c.timed {
		return "the relay's answer has no time to compare with", nil
	}
	apart, which := c.offset.Abs().Round(time.Second), "behind"
	if c.offset < 0 {
		which = "ahead of"
	}
	found := fmt.Sprintf("this node's clock is %s %s the relay's", apart, which)
	switch {
	case apart > clockFails:
		return "", faulty("set the clock right, of this node or of the relay's machine, as with chrony: signed requests are refused where they differ by more than a minute", "%s", found)
	case apart > clockWarns:
		return "warning: " + found + "; more than 1m0s will not do", nil
	case apart < 2*time.Second:
		return "as the relay's", nil
	}
	return found, nil
}

// rejoin is for credentials that do not do.
const rejoin = "make a token with `trainrelay cluster connect --name NAME` and upgrade the chart with it"

// credentials asks the relay whose the agent's key is.
func (c *checker) credentials(ctx context.Context) (string, error) {
	if c.o.Credentials != nil {
		return "", &fault{c.o.Credentials, rejoin}
	}
	answer, body, err := c.get(ctx, "/v1/agent/whoami", c.o.Authorize)
	if err != nil {
		return "", err
	}
	var says struct {
		Cluster string `json:"cluster"`
		Detail  string `json:"detail"` // of a problem
	}
	err = json.Unmarshal(body, &says)
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return "", faulty(rejoin, "the relay does not accept the agent's key: %s", cmp.Or(says.Detail, "it does not say why"))
	case answer.StatusCode != http.StatusOK || err != nil:
		return "", faulty("look at the relay's log", "the relay does not say whose the agent's key is: HTTP %d %s", answer.StatusCode, says.Detail)
	case says.Cluster != c.o.Cluster:
		return "", faulty(rejoin, "the key is that of cluster %q, and this agent is set to be %q", says.Cluster, c.o.Cluster)
	}
	return "the relay knows the key as cluster " + says.Cluster, nil
}

// policy reads the admin's policy.
func (c *checker) policy(context.Context) (string, error) {
	if err := c.o.Policy(); err != nil {
		return "", faulty("correct the chart's value policy and upgrade the chart: until then every job is refused", "%w", err)
	}
	return "in force", nil
}

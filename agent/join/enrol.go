package join

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	enrolTimeout = 30 * time.Second
	maxAnswer    = 64 << 10
)

// Refusal is the relay's no to a join token: asking again does not help.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return "the relay refuses the join token: " + r.Reason }

// enrol asks the relay to take the keys for the token's cluster. Ca is trusted
// for the relay, too.
func (j *Join) enrol(ctx context.Context, token protocol.JoinToken, keys pending, ca string) (*protocol.Enrolment, error) {
	request, err := keys.request(token)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	options := j.o.Dial
	options.RootCAs = Authorities(options.RootCAs, ca)
	dialer, err := dial.New(options)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	transport := dialer.Transport()
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, j.o.Relay.JoinPath("v1", "agent", "enrol").String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	post.Header.Set("Content-Type", "application/json")
	answer, err := transport.RoundTrip(post)
	if err != nil {
		return nil, fmt.Errorf("ask the relay to join: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the relay's answer to the join: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, refusal(answer.StatusCode, answer.Header.Get("Content-Type"), data)
	}
	enrolment, err := protocol.OpenEnrolment(data, token, request)
	if breach := new(protocol.Breach); errors.As(err, &breach) {
		return nil, fmt.Errorf("the answer to the join is not of the relay that made the token: %w; "+
			"a proxy may have put its own in its place, or relay.url is another relay's", err)
	}
	if err != nil {
		return nil, fmt.Errorf("the relay's answer to the join: %w", err)
	}
	return enrolment, nil
}

// Authorities joins the PEM of authorities that were given at install with what
// the relay says its own is.
func Authorities(given []byte, ca string) []byte {
	if ca == "" {
		return given
	}
	return slices.Concat(bytes.TrimRight(given, "\n"), []byte("\n"), []byte(ca))
}

// refusal is the error for an answer that is not 200. Only a relay's own word
// about the token is a Refusal: anything between here and there can answer.
func refusal(status int, contentType string, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/problem+json" || json.Unmarshal(body, &problem) != nil {
		return fmt.Errorf("ask the relay to join: it answered %s, which is no relay's answer: "+
			"relay.url may be wrong, the relay too old, or a proxy answers in its place", statusText(status))
	}
	detail := cmp.Or(plain(problem.Detail), statusText(status))
	switch status {
	case http.StatusUnauthorized, http.StatusGone, http.StatusUnprocessableEntity:
		return &Refusal{detail}
	}
	return fmt.Errorf("ask the relay to join: %s", detail)
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// plain is one printable line of what a stranger wrote.
func plain(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	return protocol.Cut(text, protocol.MaxReason)
}

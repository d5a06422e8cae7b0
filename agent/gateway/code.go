package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// maxProblem bounds what is read of the relay's explanation, in bytes.
const maxProblem = 16 << 10

// failure is an answer that is not the code.
type failure struct {
	status int
	text   string
}

func fail(status int, format string, args ...any) *failure {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// code serves the code of the attempt to a pod that has the attempt's token.
func (g *Gateway) code(w http.ResponseWriter, req *http.Request) {
	ref, f := g.attempt(req)
	if f == nil {
		f = g.fetch(w, req, ref)
	}
	if f == nil {
		return
	}
	g.fetches.WithLabelValues(strconv.Itoa(f.status)).Inc()
	g.opts.Log.Warn().Stringer("attempt", ref).Int("status", f.status).Str("remote", req.RemoteAddr).Msg(f.text)
	switch f.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		w.Header().Set("Retry-After", "5")
	}
	http.Error(w, f.text, f.status)
}

// attempt is the one that the request asks for, and may.
func (g *Gateway) attempt(req *http.Request) (protocol.Ref, *failure) {
	attempt, err := strconv.Atoi(req.PathValue("attempt"))
	ref := protocol.Ref{Job: req.PathValue("job"), Attempt: attempt}
	if err := errors.Join(err, ref.Validate()); err != nil {
		return protocol.Ref{}, fail(http.StatusNotFound, "there is no such attempt")
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return ref, fail(http.StatusUnauthorized, "the request has no bearer token; the pod finds it in its attempt's Secret")
	}
	if !g.opts.Tokens.check(ref, token) {
		return ref, fail(http.StatusForbidden, "the token is not that of attempt %s", ref)
	}
	return ref, nil
}

// fetch streams the code from the relay to the pod. Once the code has begun,
// all it can do about a failure is to break off.
func (g *Gateway) fetch(w http.ResponseWriter, req *http.Request, ref protocol.Ref) *failure {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		return fail(http.StatusServiceUnavailable, "too many pods fetch code at once; try again")
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer stalled.Stop()

	target := g.opts.Relay.JoinPath("v1", "agent", "jobs", ref.Job, "attempts", strconv.Itoa(ref.Attempt), "code")
	up, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fail(http.StatusInternalServerError, "the relay's URL is wrong: %v", err)
	}
	// Named, so that the transport passes on what the relay compressed.
	up.Header.Set("Accept-Encoding", "identity")
	if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		up.Header.Set("Accept-Encoding", "gzip")
	}
	if err := g.opts.Authorize(up); err != nil {
		return fail(http.StatusInternalServerError, "the agent cannot prove itself to the relay: %v", err)
	}
	resp, err := g.opts.Transport.RoundTrip(up)
	if err != nil {
		return fail(http.StatusBadGateway, "cannot reach the relay: %v", because(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length"} {
		if value := resp.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(http.StatusOK)
	if err := pass(w, resp.Body, stalled); err != nil {
		g.fetches.WithLabelValues("broken").Inc()
		g.opts.Log.Warn().Err(because(ctx, err)).Stringer("attempt", ref).Msg("the transfer of code broke off")
		panic(http.ErrAbortHandler) // the pod must not take it for whole
	}
	g.fetches.WithLabelValues("200").Inc()
	return nil
}

var errStalled = fmt.Errorf("nothing came for %s", stallTimeout)

// because is err, or what ended ctx and so caused it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// pass copies the body in bounded memory. It fails when neither side moves.
func pass(w http.ResponseWriter, body io.Reader, stalled *time.Timer) error {
	out := http.NewResponseController(w)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		stalled.Reset(stallTimeout)
		if n > 0 {
			if err := out.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
				return err
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("to the pod: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("from the relay: %w", err)
		}
	}
}

// refused passes on why the relay does not give the code. What the relay says
// of the agent's own credential is no fault of the pod's.
func refused(resp *http.Response) *failure {
	why := explain(resp)
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fail(http.StatusBadGateway, "the relay refuses the agent: %s", why)
	case resp.StatusCode == http.StatusTooManyRequests:
		return fail(http.StatusServiceUnavailable, "the relay asks for patience: %s", why)
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return fail(resp.StatusCode, "the relay has no code for this attempt: %s", why)
	}
	return fail(http.StatusBadGateway, "the relay failed: %s", why)
}

// explain is the detail of a problem document, or the status.
func explain(resp *http.Response) string {
	var problem struct {
		Detail string `json:"detail"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil || json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return resp.Status
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(problem.Detail, "?")), " ") + " (" + resp.Status + ")"
}

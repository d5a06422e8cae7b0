package api

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/trainrelay/trainrelay/protocol"
)

// transferTimeout is how long a transfer may stand still.
const transferTimeout = time.Minute

type (
	snapshotInput struct {
		Digest string `path:"digest" doc:"sha256: and 64 hexadecimal digits, of the plain tar"`
	}
	codeInput struct {
		Job     string `path:"job" maxLength:"254"`
		Attempt int    `path:"attempt" minimum:"1"`
	}
)

func (a *API) snapshotRoutes(api huma.API) {
	has := operation(contributor, http.MethodHead, "/v1/snapshots/{digest}", "has-snapshot", "Ask whether code is there", http.StatusNotFound)
	huma.Register(api, has, a.hasSnapshot)
	put := operation(contributor, http.MethodPut, "/v1/snapshots/{digest}", "put-snapshot", "Send code",
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	put.Description = "The body is a tar, sent with Content-Encoding: gzip; the digest is that of the plain tar."
	put.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
	put.Responses = map[string]*huma.Response{"204": {Description: "The code is there, and on disk."}}
	huma.Register(api, put, func(_ context.Context, in *snapshotInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			if err := a.putSnapshot(w, r, in.Digest); err != nil {
				answer(w, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}}, nil
	})
}

// agentRoutes are for the agents' gateways, on behalf of training pods.
func (a *API) agentRoutes(api huma.API) {
	code := operation(anAgent, http.MethodGet, "/v1/agent/jobs/{job}/attempts/{attempt}/code", "get-code", "Fetch the code of an attempt that runs in the agent's cluster", http.StatusNotFound)
	code.Responses = map[string]*huma.Response{"200": {
		Description: "A tar; compressed with gzip where the request accepts that.",
		Content:     map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		Headers:     map[string]*huma.Param{digestHeader: {Description: "the digest of the plain tar", Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(api, code, func(ctx context.Context, in *codeInput) (*huma.StreamResponse, error) {
		digest, err := a.opts.Jobs.Code(ctx, by(ctx), protocol.Ref{Job: in.Job, Attempt: in.Attempt})
		if err != nil {
			return nil, a.fail(err)
		}
		content, size, err := a.opts.Snapshots.Get(ctx, digest)
		if err != nil {
			return nil, a.fail(err)
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			defer content.Close()
			r, w := humago.Unwrap(ctx)
			a.sendCode(w, r, digest, content, size)
		}}, nil
	})
}

// digestHeader names the digest of code that is sent.
const digestHeader = "Trainrelay-Digest"

func (a *API) hasSnapshot(ctx context.Context, in *snapshotInput) (*struct{}, error) {
	found, err := a.opts.Snapshots.Has(ctx, in.Digest)
	if err != nil {
		return nil, a.fail(err)
	}
	if !found {
		return nil, huma.NewError(http.StatusNotFound, "the relay has no snapshot "+in.Digest+"; send it with PUT")
	}
	return nil, nil
}

func (a *API) putSnapshot(w http.ResponseWriter, r *http.Request, digest string) error {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return huma.NewError(http.StatusUnsupportedMediaType, "send the tar compressed, with Content-Encoding: gzip")
	}
	// What is no digest changes nothing, and fills no audit log.
	if _, err := a.opts.Snapshots.Has(r.Context(), digest); err != nil {
		return a.fail(err)
	}
	if err := a.audit(r.Context(), "snapshot.put", digest, ""); err != nil {
		return err
	}
	conn := http.NewResponseController(w)
	if err := a.opts.Snapshots.Put(r.Context(), digest, patient{conn, r.Body}); err != nil {
		// The body may have broken off; then nobody reads the answer.
		return errors.Join(a.fail(err), conn.SetWriteDeadline(time.Now().Add(transferTimeout)))
	}
	return conn.SetWriteDeadline(time.Now().Add(transferTimeout))
}

// patient lets a body take its time, as long as something comes.
type patient struct {
	conn *http.ResponseController
	r    io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(transferTimeout)); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// sendCode sends a snapshot, plain or as it is stored.
func (a *API) sendCode(w http.ResponseWriter, r *http.Request, digest string, content io.Reader, size int64) {
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set(digestHeader, digest)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	} else {
		plain, err := gzip.NewReader(content)
		if err != nil {
			answer(w, a.fail(fmt.Errorf("snapshot %s is damaged on the relay's disk: %w", digest, err)))
			return
		}
		content = plain
	}
	if _, err := io.Copy(steady{http.NewResponseController(w), w}, content); err != nil {
		a.opts.Log.Debug().Err(err).Str("digest", digest).Msg("sending code broke off")
		panic(http.ErrAbortHandler) // a part must not look like the whole
	}
}

// steady lets an answer take its time, as long as somebody reads it.
type steady struct {
	conn *http.ResponseController
	w    io.Writer
}

func (s steady) Write(b []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(transferTimeout)); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}

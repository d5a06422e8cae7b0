package api

import (
	"crypto/rand"
	"net/http"
	"runtime/debug"
	"time"
)

// Bounds of ordinary requests.
const (
	maxBody     = 256 << 10
	bodyTimeout = 30 * time.Second
	// writeTimeout is how long an answer may take; long ones extend it.
	writeTimeout = 2 * time.Minute
)

// observe numbers requests, logs them, bounds their bodies and answers in time
// and contains their panics.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, id := time.Now(), rand.Text()
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// Where it is not supported there is no connection to be held up.
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(start.Add(writeTimeout))
		if r.ContentLength != 0 {
			// The server waits for a body before it answers, even where nobody
			// reads it. Who reads a long one extends this; without a body it
			// would end the request's context.
			_ = conn.SetReadDeadline(start.Add(bodyTimeout))
		}
		answer := &recorder{ResponseWriter: w}
		defer func() {
			thrown := recover()
			if thrown != nil && thrown != http.ErrAbortHandler {
				a.opts.Log.Error().Str("request", id).Interface("panic", thrown).Bytes("stack", debug.Stack()).
					Str("method", r.Method).Str("path", r.URL.Path).Msg("a request panicked; it was ended")
				if answer.status == 0 {
					problem(answer, http.StatusInternalServerError, "the relay failed at this request, and its log says more under "+id+"; please report it")
				}
			}
			a.opts.Log.Debug().Str("request", id).Str("method", r.Method).Str("path", r.URL.Path).
				Int("status", answer.status).Str("from", r.RemoteAddr).Dur("took", time.Since(start)).Msg("request")
			if thrown != nil && answer.status != http.StatusInternalServerError {
				panic(http.ErrAbortHandler) // a cut answer must not look whole
			}
		}()
		next.ServeHTTP(answer, r)
	})
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

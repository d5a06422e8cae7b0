package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// fail is the answer to a request whose effect failed.
func (a *API) fail(err error) error {
	status := a.opts.Status(err)
	switch {
	case errors.Is(err, errStopping), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	case status == 0:
		status = http.StatusServiceUnavailable
		a.opts.Log.Error().Err(err).Msg("a request failed")
	}
	return huma.NewError(status, oneLine(err))
}

// oneLine joins the lines of an error of several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// invalid lists what is wrong with an input. Errors begin with their field.
func invalid(what string, err error) error {
	var details []error
	for _, problem := range flatten(err) {
		field, message, ok := strings.Cut(problem.Error(), ": ")
		if !ok || strings.ContainsAny(field, " \"") {
			field, message = "", problem.Error()
		}
		details = append(details, &huma.ErrorDetail{Location: strings.TrimSuffix("body."+field, "."), Message: message})
	}
	return huma.NewError(http.StatusUnprocessableEntity, what+" is not valid: correct what is listed and send it again", details...)
}

// flatten lists the errors that were joined.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// problem answers outside of an operation.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// Whoever asked may be gone.
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}

// answer answers with an error outside of huma's reach, within a stream.
func answer(w http.ResponseWriter, err error) {
	if more := huma.HeadersError(nil); errors.As(err, &more) {
		maps.Copy(w.Header(), more.GetHeaders())
	}
	if known := huma.StatusError(nil); errors.As(err, &known) {
		problem(w, known.GetStatus(), known.Error())
		return
	}
	problem(w, http.StatusServiceUnavailable, oneLine(err))
}

func notFound(w http.ResponseWriter, r *http.Request) {
	problem(w, http.StatusNotFound, "nothing answers "+r.Method+" "+r.URL.Path+": /openapi.json lists what is there")
}

package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"
)

// lookAt serves one request with the handler behind observe.
func lookAt(t *testing.T, handler http.HandlerFunc) (_ *http.Response, body []byte, logged string, _ error) {
	t.Helper()
	var log bytes.Buffer
	a := &API{opts: Options{Log: zerolog.New(&log)}}
	server := httptest.NewServer(a.observe(handler))
	defer func() { server.Close() }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer trt_secret")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	server.Close() // the log is written behind the answer
	return resp, body, log.String(), err
}

func TestPanicEndsItsRequestOnly(t *testing.T) {
	resp, body, log, err := lookAt(t, func(http.ResponseWriter, *http.Request) { panic("oh") })
	if err != nil {
		t.Fatal(err)
	}
	var p huma.ErrorModel
	id := resp.Header.Get("X-Request-Id")
	if err := json.Unmarshal(body, &p); err != nil || resp.StatusCode != http.StatusInternalServerError || id == "" || !strings.Contains(p.Detail, id) {
		t.Errorf("%d %s: %v", resp.StatusCode, body, err)
	}
	if resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a %s", resp.Header.Get("Content-Type"))
	}
	for _, want := range []string{id, `"panic":"oh"`, "observe_test.go"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
	if strings.Contains(log, "trt_secret") {
		t.Errorf("the log has the token: %s", log)
	}
}

// TestPanicBehindAPart: an answer that a panic cut does not look whole.
func TestPanicBehindAPart(t *testing.T) {
	_, body, log, err := lookAt(t, func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("a part")); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic("oh")
	})
	if err == nil || !strings.Contains(log, `"panic":"oh"`) {
		t.Errorf("read %q, %v; log %s", body, err, log)
	}
}

func TestAccessLog(t *testing.T) {
	resp, _, log, err := lookAt(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Level, Request, Method, Path string
		Status                       int
	}
	if err := json.Unmarshal([]byte(log), &line); err != nil {
		t.Fatal(err, log)
	}
	if line.Level != "debug" || line.Status != http.StatusTeapot || line.Path != "/x" || line.Request != resp.Header.Get("X-Request-Id") || strings.Contains(log, "secret") {
		t.Error(log)
	}
}

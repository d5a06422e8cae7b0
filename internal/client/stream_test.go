package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// follow describes what a stream yields.
func follow(ctx context.Context, c *Client, from string) (got []string) {
	for e, err := range c.Stream(ctx, "j", from) {
		switch {
		case err != nil:
			got = append(got, "error "+err.Error())
		case e.Status != nil:
			got = append(got, "status "+string(e.Status.Status))
		case e.Log != nil:
			got = append(got, "log "+e.Log.Text)
		case e.Gap != nil:
			got = append(got, "gap "+e.Gap.Text)
		case e.End != nil:
			got = append(got, fmt.Sprint("end ", e.End.Status, e.End.LogComplete))
		case e.Lost != nil:
			got = append(got, "lost")
		}
	}
	return got
}

// TestStreamGoesOn: a stream that breaks is made again behind what was seen.
func TestStreamGoesOn(t *testing.T) {
	answers := []struct{ from, body string }{
		{"start", ": alive\n\nevent: status\ndata: {\"status\":\"Running\"}\n\nid: 1\nevent: log\ndata: {\"text\":\"a\"}\n\nid: 2\nevent: log\ndata: {\"te"},
		{"1", ""},
		{"1", "event: something-new\ndata: {}\n\nid: 2\nevent: log\ndata: {\"text\":\"b\"}\n\nid: 3\nevent: gap\ndata: {\"text\":\"rotated\"}\n\n"},
		{"3", "event: end\ndata: {\"status\":\"Completed\",\"log_complete\":true}\n\n"},
	}
	c, _ := relay(t, func(w http.ResponseWriter, r *http.Request) {
		if len(answers) == 0 || r.Header.Get("Last-Event-ID") != answers[0].from {
			t.Errorf("asked from %q, want %v", r.Header.Get("Last-Event-ID"), answers)
			http.Error(w, "", http.StatusNotFound)
			return
		}
		body := answers[0].body
		answers = answers[1:]
		if body == "" {
			http.Error(w, "", http.StatusServiceUnavailable) // while it restarts
			return
		}
		fmt.Fprint(w, body)
	})
	want := []string{"status Running", "log a", "lost", "lost", "log b", "gap rotated", "lost", "end Completedtrue"}
	if diff := cmp.Diff(want, follow(t.Context(), c, "start")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestStreamGivesUp(t *testing.T) {
	t.Run("at once where the relay refuses", func(t *testing.T) {
		c, _ := relay(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"detail":"job j: not found"}`)
		})
		if got := follow(t.Context(), c, ""); len(got) != 1 || !strings.Contains(got[0], "job j: not found") {
			t.Error(got)
		}
	})
	t.Run("at once where it was never reached", func(t *testing.T) {
		c, _ := relay(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		if got := follow(t.Context(), c, ""); len(got) != 1 || !strings.HasPrefix(got[0], "error the relay refused (502)") {
			t.Error(got)
		}
	})
	t.Run("when nobody listens any more", func(t *testing.T) {
		c, _ := relay(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "event: log\ndata: {\"text\":\"a\"}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		for e, err := range c.Stream(t.Context(), "j", "") {
			if err != nil || e.Log == nil {
				t.Error(e, err)
			}
			break
		}
	})
}

// silent answers once, and then says nothing more.
type silent struct{ first string }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
	body := io.MultiReader(strings.NewReader(s.first), pr)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: struct {
		io.Reader
		io.Closer
	}{body, pr}}, nil
}

// TestSilentStream: a connection that died unnoticed is given up.
func TestSilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &url.URL{Scheme: "https", Host: "relay.example"}
		c := &Client{base: base, http: &http.Client{Transport: silent{"event: log\ndata: {\"text\":\"a\"}\n\n"}}}
		for e, err := range c.Stream(t.Context(), "j", "") {
			if err != nil {
				t.Fatal(err)
			}
			if e.Lost != nil {
				if !errors.Is(e.Lost, errSilent) {
					t.Errorf("lost: %v", e.Lost)
				}
				return
			}
		}
	})
}

// FuzzMessages: whatever arrives, reading ends, with events that are bounded.
func FuzzMessages(f *testing.F) {
	f.Add("id: 1\nevent: log\ndata: {}\n\n: c\n\ndata:a\ndata: b\r\n\r\n")
	f.Add("data\n\nevent")
	f.Fuzz(func(t *testing.T, stream string) {
		m := newMessages(strings.NewReader(stream))
		for n := 0; ; n++ {
			got, err := m.next()
			if err != nil {
				return
			}
			if len(got.data) > maxEvent || n > len(stream) {
				t.Fatalf("%d events, one of %d bytes", n, len(got.data))
			}
			// Hostile data is an error, not a panic; which it is matters not.
			_, _, _ = got.event()
		}
	})
}

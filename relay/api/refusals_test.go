package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// page is an audit log on paper.
type page struct{ entries []v1.AuditEntry }

func (p *page) Append(_ context.Context, e v1.AuditEntry) error {
	p.entries = append(p.entries, e)
	return nil
}

func (p *page) List(context.Context, AuditQuery) ([]v1.AuditEntry, uint64, error) {
	return p.entries, 0, nil
}

// TestRefusals: who tries without end is slowed, does not fill the audit log,
// and keeps out nobody who has a token, though he comes from the same address.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(page)
		a := &API{refusals: newRefusals(), opts: Options{Audit: log, Log: zerolog.Nop(), User: func(token string) (v1.Identity, error) {
			if token == "good" {
				return v1.Identity{Name: "good", Role: v1.Reader}, nil
			}
			return v1.Identity{}, errors.New("not known")
		}}}
		handler := a.trace(a.forUsers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
		try := func(token string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/jobs", nil)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w
		}
		statuses := map[int]int{}
		for range 1000 {
			w := try("wrong")
			statuses[w.Code]++
			if w.Code == http.StatusTooManyRequests && (w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "with a valid one there is no limit")) {
				t.Fatalf("%v %s", w.Header(), w.Body)
			}
			if w := try("good"); w.Code != http.StatusNoContent {
				t.Fatalf("with a valid token: %d %s", w.Code, w.Body)
			}
		}
		if statuses[http.StatusUnauthorized] != failuresEach.burst || statuses[http.StatusTooManyRequests] != 1000-failuresEach.burst {
			t.Errorf("answered %v", statuses)
		}
		if len(log.entries) != refusalsEach.burst || log.entries[0].Action != "login.refused" || log.entries[0].Remote == "" {
			t.Errorf("%d entries: %+v", len(log.entries), log.entries)
		}
		time.Sleep(time.Minute)
		if w := try("wrong"); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("a minute later: %d", w.Code)
		}
		if n := len(log.entries); n != refusalsEach.burst+1 || !strings.Contains(log.entries[n-1].Detail, "995 more") {
			t.Errorf("a minute later: %+v", log.entries[n-1])
		}
		time.Sleep(time.Minute)
		before := len(log.entries)
		if w := try(""); w.Code != http.StatusUnauthorized || len(log.entries) != before {
			t.Errorf("without a token: %d, %d entries", w.Code, len(log.entries)-before)
		}
	})
}

// TestOutcomes: what was written down and then failed is followed by what
// became of it.
func TestOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		handle func(a *API, w http.ResponseWriter)
		want   string // of the last entry
	}{
		"done":    {func(_ *API, w http.ResponseWriter) { w.WriteHeader(http.StatusCreated) }, "first"},
		"refused": {func(_ *API, w http.ResponseWriter) { w.WriteHeader(http.StatusConflict) }, "not done: answered 409"},
		"failed":  {func(_ *API, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, "answered 503, and it may not have been done"},
		"panic":   {func(*API, http.ResponseWriter) { panic(http.ErrAbortHandler) }, "the request broke off, and it may not have been done"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(page)
			a := &API{changes: newUsers(changesEach, time.Now), opts: Options{Audit: log, Log: zerolog.Nop()}}
			handler := a.trace(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				trailOf(r.Context()).actor = "ci"
				if err := a.audit(r.Context(), "job.submit", "iris", "first"); err != nil {
					t.Error(err)
				}
				tc.handle(a, w)
			}))
			func() {
				defer func() { _ = recover() }()
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/jobs", nil))
			}()
			last := log.entries[len(log.entries)-1]
			if last.Detail != tc.want || last.Actor != "ci" || last.Action != "job.submit" || last.Target != "iris" {
				t.Errorf("%+v", log.entries)
			}
		})
	}
}

// TestChangesHaveAPace: whoever has a token can make thousands of changes, and
// cannot push what others did out of the audit log.
func TestChangesHaveAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(page)
		a := &API{changes: newUsers(changesEach, time.Now), opts: Options{Audit: log, Log: zerolog.Nop()}}
		handler := a.trace(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			trailOf(r.Context()).actor = r.Header.Get("By")
			if err := a.audit(r.Context(), "job.cancel", "iris", ""); err != nil {
				answer(w, err)
			}
		}))
		try := func(by string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/jobs/iris/cancel", nil)
			r.Header.Set("By", by)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w
		}
		for range changesEach.burst {
			if w := try("ci"); w.Code != http.StatusOK {
				t.Fatalf("refused after %d: %s", len(log.entries), w.Body)
			}
		}
		if w := try("ci"); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "nothing was changed") {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		if w := try("ann"); w.Code != http.StatusOK || len(log.entries) != changesEach.burst+1 {
			t.Errorf("another token: %d, %d entries", w.Code, len(log.entries))
		}
		time.Sleep(time.Second)
		if w := try("ci"); w.Code != http.StatusOK {
			t.Errorf("a second later: %d", w.Code)
		}
	})
}

// FuzzBearer: a token is a piece of the header behind its scheme, without
// blanks around it.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer trt_x", "bearer  trt_x ", "Basic dTpw", "Bearer\ttrt_x", "Bearer a b", " Bearer x", "BearerBearer x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token := parseBearer(header)
		if token == "" {
			return
		}
		rest, ok := strings.CutSuffix(strings.TrimSpace(header), token)
		if !ok || token != strings.TrimSpace(token) || !strings.EqualFold(strings.TrimSpace(rest), "Bearer") {
			t.Errorf("%q: %q", header, token)
		}
	})
}

// TestDeniedIsWritten: strangers who try wrong tokens without end do not hide
// that a token was used for what it may not do.
func TestDeniedIsWritten(t *testing.T) {
	log := new(page)
	a := &API{refusals: newRefusals(), opts: Options{Audit: log, Log: zerolog.Nop()}}
	as := func(actor, remote string) context.Context {
		return context.WithValue(t.Context(), trailKey{}, &trail{actor: actor, remote: remote})
	}
	for i := range 2 * refusalsAll.burst {
		a.writeRefusal(as("", ipv4(10, i)), "login.refused", "", "not known")
	}
	log.entries = nil
	for range 2 * refusalsEach.burst {
		a.writeRefusal(as("eve", ipv4(10, 1)), "access.denied", "create-token", "it takes the role admin")
	}
	a.writeRefusal(as("bob", ipv4(10, 1)), "access.denied", "rotate-key", "it takes the role admin")
	if n := len(log.entries); n != refusalsEach.burst+1 || log.entries[0].Actor != "eve" || log.entries[n-1].Actor != "bob" {
		t.Errorf("%d entries: %+v", n, log.entries)
	}
	if e := log.entries[0]; e.Detail != "it takes the role admin" {
		t.Errorf("what strangers tried is told of eve: %+v", e)
	}
}

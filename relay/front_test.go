package relay

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// wantRefusal checks that the relay refused with the status and words.
func wantRefusal(t *testing.T, err error, status int, words string) *client.APIError {
	t.Helper()
	refused := new(client.APIError)
	if !errors.As(err, &refused) || refused.Status != status || !strings.Contains(refused.Error(), words) {
		t.Fatalf("error %v, want a refusal with %d and %q", err, status, words)
	}
	return refused
}

func TestJobOverHTTP(t *testing.T) {
	data := t.TempDir()
	s := serve(t, data)
	s.setUp(t, "c")
	job := sampleJob("iris", "c")
	for _, created := range []bool{true, false} {
		if got, isNew, err := s.client.Submit(t.Context(), job); err != nil || isNew != created || got.Status != protocol.Queued {
			t.Fatalf("%+v, created %v, %v", got, isNew, err)
		}
	}
	other := job
	other.Command = "something else"
	_, _, err := s.client.Submit(t.Context(), other)
	wantRefusal(t, err, http.StatusConflict, "choose another name")

	var seen []protocol.State
	for event, err := range s.client.Stream(t.Context(), "iris", "") {
		switch {
		case err != nil || event.Lost != nil:
			t.Fatal(err, event.Lost)
		case event.Status != nil:
			seen = append(seen, event.Status.Status)
			if len(seen) > 1 {
				continue
			}
			if canceled, err := s.client.Cancel(t.Context(), "iris"); err != nil || canceled.Status != protocol.Canceled {
				t.Fatalf("%+v, %v", canceled, err)
			}
		case event.End != nil:
			seen = append(seen, event.End.Status)
			if !event.End.LogComplete {
				t.Error("output is said to be missing of a job that never ran")
			}
		}
	}
	if want := []protocol.State{protocol.Queued, protocol.Canceled, protocol.Canceled}; !slices.Equal(seen, want) {
		t.Errorf("the stream said %v, want %v", seen, want)
	}
	s.stop()

	again := serve(t, data)
	if again.config.Token != s.config.Token || again.config.URL == s.config.URL {
		t.Error("after a restart on another port: the same URL, or another token")
	}
	kept, err := again.client.Job(t.Context(), "iris")
	if err != nil || kept.Status != protocol.Canceled || kept.CreationContext.CreatedBy != "admin" {
		t.Errorf("after a restart: %+v, %v", kept, err)
	}
}

func TestListsOverHTTP(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, name := range []string{"b", "a"} {
		s.setUp(t, name)
		for _, job := range []string{"-1", "-2", "-3"} {
			if _, _, err := s.client.Submit(t.Context(), sampleJob(name+job, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	names := func(q client.Query) (names []string) {
		t.Helper()
		for job, err := range s.client.Jobs(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, job.Name)
		}
		return names
	}
	for _, tc := range []struct {
		query client.Query
		want  []string
	}{
		{client.Query{}, []string{"a-3", "a-2", "a-1", "b-3", "b-2", "b-1"}},
		{client.Query{Limit: 2}, []string{"a-3", "a-2"}},
		{client.Query{Compute: "b", Status: protocol.Queued}, []string{"b-3", "b-2", "b-1"}},
		{client.Query{Status: protocol.Running}, nil},
	} {
		if got := names(tc.query); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.query, got, tc.want)
		}
	}
	status, body := s.request(t, http.MethodGet, "/v1/jobs?limit=2&compute=a", s.config.Token, nil)
	var page v1.JobList
	if err := json.Unmarshal(body, &page); err != nil || status != http.StatusOK || page.NextLink == "" {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	clusters, err := s.client.Clusters(t.Context())
	if err != nil || len(clusters) != 2 || clusters[0].Name != "a" || clusters[0].Connectivity != v1.NeverConnected {
		t.Errorf("%+v, %v", clusters, err)
	}
	if _, err := s.client.Disconnect(t.Context(), "b", v1.KeepJobs); err != nil {
		t.Fatal(err)
	}
	_, err = s.client.Cluster(t.Context(), "b")
	wantRefusal(t, err, http.StatusNotFound, "cluster b")
	computes, err := s.client.Computes(t.Context())
	if err != nil || len(computes) != 2 || computes[0].Name != "a" || computes[0].Queued != 3 {
		t.Errorf("%+v, %v", computes, err)
	}
	_, _, err = s.client.PutCompute(t.Context(), "x", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "a", Namespace: "azureml"}})
	wantRefusal(t, err, http.StatusUnprocessableEntity, "agent's own")
}

// request makes a bare request.
func (s *served) request(t *testing.T, method, path, token string, body io.Reader) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.config.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	transport := &http.Transport{TLSClientConfig: s.trust()}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// TestAnonymousIsRefused walks everything that the API says of itself.
func TestAnonymousIsRefused(t *testing.T) {
	s := serve(t, t.TempDir())
	status, doc := s.request(t, http.MethodGet, "/openapi.json", s.config.Token, nil)
	var described struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(doc, &described); err != nil || status != http.StatusOK || len(described.Paths) < 10 {
		t.Fatalf("%d, %d paths, %v", status, len(described.Paths), err)
	}
	closed := map[string][]string{"/metrics": {"GET"}, "/openapi.json": {"GET"}, "/openapi.yaml": {"GET"}, "/": {"GET"}, "/v1/nothing": {"GET"}, "/v1/agent/nothing": {"GET"}}
	for path, methods := range described.Paths {
		if path == "/v1/agent/enrol" {
			continue // the request itself proves to have a join token
		}
		for method := range methods {
			closed[path] = append(closed[path], strings.ToUpper(method))
		}
	}
	statuses := map[int]int{}
	for path, methods := range closed {
		path = strings.NewReplacer("{attempt}", "1", "{", "", "}", "").Replace(path)
		for _, method := range methods {
			for name, token := range map[string]string{"no": "", "a wrong": s.config.Token + "x", "an empty": "trt_"} {
				status, body := s.request(t, method, path, token, nil)
				if status != http.StatusUnauthorized && status != http.StatusTooManyRequests {
					t.Errorf("%s %s with %s token: %d %s", method, path, name, status, body)
				}
				if statuses[status]++; status == http.StatusTooManyRequests && statuses[http.StatusUnauthorized] < 25 { // users' tokens for agents' paths count, too
					t.Errorf("slowed after %v refusals", statuses)
				}
			}
			if status, body := s.request(t, method, path, s.config.Token, nil); (status == http.StatusUnauthorized || status == http.StatusTooManyRequests) != strings.HasPrefix(path, "/v1/agent/") {
				t.Errorf("%s %s with the user's token: %d %s", method, path, status, body)
			}
		}
	}
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/nats": http.StatusUpgradeRequired} {
		if status, body := s.request(t, http.MethodGet, path, "", nil); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestBadInputOverHTTP(t *testing.T) {
	s := serve(t, t.TempDir())
	s.setUp(t, "c")
	for _, tc := range []struct {
		name, path, body string
		status           int
		want             []string
	}{
		{"no JSON", "/v1/jobs", "{", 400, []string{"unexpected end of JSON"}},
		{"unknown field", "/v1/jobs", `{"name":"a","command":"c","image":"i","compute":"c","instance_count":1,"colour":"blue"}`, 422, []string{"body.colour"}},
		{"missing fields", "/v1/jobs", `{"name":"a"}`, 422, []string{"property command", "property image", "property compute"}},
		{"all problems at once", "/v1/jobs", `{"name":"a b","command":" ","image":"i","compute":"-","instance_count":0}`, 422,
			[]string{"body.name", "body.command", "body.compute", "body.instance_count"}},
		{"unknown compute", "/v1/jobs", `{"name":"a","command":"c","image":"i","compute":"x","instance_count":1}`, 422, []string{`no compute \"x\"`}},
		{"unknown code", "/v1/jobs", `{"name":"a","command":"c","image":"i","compute":"c","instance_count":1,"code":"sha256:` + strings.Repeat("0", 64) + `"}`, 422,
			[]string{"body.code", "send it first"}},
		{"too large", "/v1/jobs", `{"name":"` + strings.Repeat("a", 300<<10) + `"}`, 413, []string{"body is too large"}},
		{"bad status", "/v1/jobs?status=Exploded", "", 422, []string{"query.status", "NotResponding"}},
		{"bad cursor", "/v1/jobs?cursor=!", "", 422, []string{"cursor"}},
		{"misspelt query", "/v1/jobs?stauts=Running", "", 422, []string{"stauts"}},
		{"no such job", "/v1/jobs/nobody", "", 404, []string{"job nobody"}},
		{"no such stream", "/v1/jobs/nobody/stream", "", 404, []string{"job nobody"}},
		{"nothing there", "/v2/jobs", "", 404, []string{"/openapi.json"}},
		{"hostile name", "/v1/jobs/%2e%2e%2fx%00", "", 404, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			method, body := http.MethodGet, io.Reader(nil)
			if tc.body != "" {
				method, body = http.MethodPost, strings.NewReader(tc.body)
			}
			status, answer := s.request(t, method, tc.path, s.config.Token, body)
			if status != tc.status {
				t.Errorf("%d %s", status, answer)
			}
			for _, want := range tc.want {
				if !bytes.Contains(answer, []byte(want)) {
					t.Errorf("%s\nlacks %q", answer, want)
				}
			}
		})
	}
	if jobs, _, err := s.Jobs().Jobs(t.Context(), allJobs); err != nil || len(jobs) != 0 {
		t.Errorf("accepted: %v, %v", jobs, err)
	}
}

// TestNoSecretsInTheData: the admin's token is nowhere in the relay's folder but
// in the client's configuration, and a join token is nowhere.
func TestNoSecretsInTheData(t *testing.T) {
	data := t.TempDir()
	s := serve(t, data)
	s.setUp(t, "c")
	token, err := s.client.Connect(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimPrefix(token.Token, "trj_")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	err = filepath.Walk(data, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) || bytes.Contains(content, raw[:32]) {
			t.Errorf("%s has the join token", path)
		}
		if bytes.Contains(content, []byte(s.config.Token)) && path != s.front.ClientFile() {
			t.Errorf("%s has the token", path)
		}
		if info.Mode().Perm()&0o077 != 0 && bytes.Contains(content, []byte("PRIVATE KEY")) {
			t.Errorf("%s can be read by others", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.front.ClientFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestStopCutsLongRequests: a stream and an agent do not keep the relay.
func TestStopCutsLongRequests(t *testing.T) {
	s := serve(t, t.TempDir())
	kp := s.setUp(t, "c")
	submit(t, s.running, sampleJob("iris", "c"))
	conn := s.dialFront(t, "c", kp)
	gone := make(chan struct{})
	conn.SetClosedHandler(func(*natsConn) { close(gone) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for event, err := range s.client.Stream(ctx, "iris", "") {
		switch {
		case event.Status != nil:
			go s.stop()
		case event.Lost != nil:
			cancel() // the relay is gone, and the client would wait for it
		case err != nil && !errors.Is(err, context.Canceled):
			t.Error(err)
		}
	}
	s.stop()
	<-gone
}

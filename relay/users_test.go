package relay

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/relay/audit"
)

// described is an operation as the API describes it.
type described struct {
	method, path string
	ID           string                `json:"operationId"`
	Security     []map[string][]string `json:"security"`
}

// operations are all that the API says of itself, by ID.
func (s *served) operations(t *testing.T) map[string]described {
	t.Helper()
	_, doc := s.request(t, http.MethodGet, "/openapi.json", s.config.Token, nil)
	var api struct {
		Paths map[string]map[string]described `json:"paths"`
	}
	if err := json.Unmarshal(doc, &api); err != nil {
		t.Fatal(err)
	}
	all := map[string]described{}
	for path, methods := range api.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			if _, twice := all[op.ID]; twice || op.ID == "" {
				t.Errorf("%s %s: the ID %q is missing or another's", op.method, path, op.ID)
			}
			all[op.ID] = op
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d operations", len(all))
	}
	return all
}

// role is what a user's token must have; empty for what is no user's.
func (op described) role(t *testing.T) v1.Role {
	t.Helper()
	if len(op.Security) != 1 {
		t.Fatalf("%s: who may call it is %v", op.ID, op.Security)
	}
	roles, ok := op.Security[0]["user"]
	if !ok {
		return ""
	}
	if len(roles) != 1 || !slices.Contains(v1.Roles(), v1.Role(roles[0])) {
		t.Fatalf("%s: its roles are %v", op.ID, roles)
	}
	return v1.Role(roles[0])
}

// as is the client of a new token.
func (s *served) as(t *testing.T, name string, role v1.Role) (*client.Client, client.Config) {
	t.Helper()
	token, err := s.client.CreateToken(t.Context(), v1.TokenSettings{Name: name, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	config := s.config
	config.Token = token.Secret
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, config
}

// entries are those of the audit log, newest first.
func (s *served) entries(t *testing.T) []audit.Entry {
	t.Helper()
	entries, _, err := s.Audit().List(t.Context(), audit.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// TestRoles tries every operation that the API describes with a token of each
// role: those that lack the one it names are refused, and told so.
func TestRoles(t *testing.T) {
	s := serve(t, t.TempDir())
	tokens := map[v1.Role]string{}
	for _, role := range v1.Roles() {
		c, config := s.as(t, "the-"+string(role), role)
		tokens[role] = config.Token
		if who, err := c.WhoAmI(t.Context()); err != nil || who.Name != "the-"+string(role) || who.Role != role || who.Expires == nil {
			t.Errorf("%+v, %v", who, err)
		}
		if status, _ := s.request(t, http.MethodGet, "/metrics", config.Token, nil); status != http.StatusOK {
			t.Errorf("/metrics with the role %s: %d", role, status)
		}
	}
	expected := map[string]v1.Role{
		"submit-job": v1.Contributor, "cancel-job": v1.Contributor, "has-snapshot": v1.Contributor, "put-snapshot": v1.Contributor,
		"list-jobs": v1.Reader, "get-job": v1.Reader, "stream-job": v1.Reader, "search-logs": v1.Reader, "list-computes": v1.Reader, "get-compute": v1.Reader,
		"list-clusters": v1.Reader, "get-cluster": v1.Reader, "who-am-i": v1.Reader, "list-keys": v1.Reader,
		"list-extensions": v1.Reader, "get-extension": v1.Reader,
		"put-environment": v1.Contributor, "list-environments": v1.Reader, "get-environment": v1.Reader,
		"enrol": "", "get-code": "", "whoami": "",
	}
	for id, op := range s.operations(t) {
		want, known := expected[id]
		if !known {
			want = v1.Admin // what is new is the admin's until somebody decides otherwise
		}
		role := op.role(t)
		if role != want {
			t.Errorf("%s takes the role %q, want %q", id, role, want)
		}
		if role == "" || id == "revoke-token" && role != v1.Admin {
			continue
		}
		path := strings.NewReplacer("{", "no-", "}", "").Replace(op.path)
		for has, token := range tokens {
			status, body := s.request(t, op.method, path, token, nil)
			if refused := status == http.StatusForbidden; refused == has.Includes(role) {
				t.Errorf("%s with the role %s: %d %s", id, has, status, body)
			}
			if status == http.StatusForbidden && op.method != http.MethodHead &&
				!bytes.Contains(body, []byte("takes the role "+string(role)+", and the token the-"+string(has)+" has the role "+string(has))) {
				t.Errorf("%s with the role %s is told %s", id, has, body)
			}
		}
	}
}

// TestEveryChangeIsAudited makes every change that the API describes, and finds
// it in the audit log, with who made it and without any secret. It fails for an
// operation that is not in its table.
func TestEveryChangeIsAudited(t *testing.T) {
	s := serve(t, t.TempDir())
	admin, config := s.as(t, "boss", v1.Admin)
	secrets := []string{config.Token}
	var join v1.JoinToken
	var code bytes.Buffer
	if err := tar.NewWriter(&code).Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(code.Bytes())
	digest := "sha256:" + hex.EncodeToString(sum[:])
	ctx := t.Context()
	changes := []struct {
		id, action, target, actor string
		make                      func() error
	}{
		{"connect-cluster", "cluster.connect", "c", "", func() (err error) {
			join, err = admin.Connect(ctx, "c")
			secrets = append(secrets, join.Token)
			return err
		}},
		{"enrol", "cluster.enrol", "c", "agent:c", func() error { _, err := s.enrol(t, join.Token); return err }},
		{"put-compute", "compute.put", "c", "", func() error {
			_, _, err := admin.PutCompute(ctx, "c", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "c", Namespace: "train"}})
			return err
		}},
		{"put-extension", "extension.put", "amlarc-compute", "", func() error {
			_, _, err := admin.PutExtension(ctx, "c", "amlarc-compute", v1.ExtensionSettings{Settings: map[string]string{"enableTraining": "true"}})
			return err
		}},
		{"put-environment", "environment.put", "sklearn:1", "", func() error {
			_, _, err := admin.PutEnvironment(ctx, "sklearn", "1", v1.EnvironmentSettings{Image: "registry.example/sklearn:1"})
			return err
		}},
		{"delete-environment", "environment.delete", "sklearn:1", "", func() error { return admin.DeleteEnvironment(ctx, "sklearn", "1") }},
		{"put-snapshot", "snapshot.put", digest, "", func() error {
			return admin.PutSnapshot(ctx, digest, func(w io.Writer) error { _, err := w.Write(code.Bytes()); return err })
		}},
		{"submit-job", "job.submit", "iris", "", func() error { _, _, err := admin.Submit(ctx, sampleJob("iris", "c")); return err }},
		{"cancel-job", "job.cancel", "iris", "", func() error { _, err := admin.Cancel(ctx, "iris"); return err }},
		{"create-token", "token.create", "ci", "", func() error {
			token, err := admin.CreateToken(ctx, v1.TokenSettings{Name: "ci", Role: v1.Reader})
			secrets = append(secrets, token.Secret)
			return err
		}},
		{"revoke-token", "token.revoke", "ci", "", func() error { return admin.RevokeToken(ctx, "ci") }},
		{"rotate-key", "key.rotate", "", "", func() error { _, err := admin.RotateKey(ctx); return err }},
		{"retire-key", "key.retire", "", "", func() error {
			keys, err := admin.Keys(ctx)
			if err != nil {
				return err
			}
			_, err = admin.RetireKey(ctx, keys[len(keys)-1].ID, true)
			return err
		}},
		{"detach-compute", "compute.detach", "c", "", func() error { _, err := admin.Detach(ctx, "c", "cancel"); return err }},
		{"delete-extension", "extension.delete", "amlarc-compute", "", func() error { return admin.DeleteExtension(ctx, "c", "amlarc-compute") }},
		{"disconnect-cluster", "cluster.disconnect", "c", "", func() error { _, err := admin.Disconnect(ctx, "c", "keep"); return err }},
	}
	left := s.operations(t)
	maps.DeleteFunc(left, func(_ string, op described) bool {
		op.role(t)
		return op.method == http.MethodGet || op.method == http.MethodHead
	})
	for _, change := range changes {
		if _, ok := left[change.id]; !ok {
			t.Errorf("there is no operation %s", change.id)
		}
		delete(left, change.id)
		before := len(s.entries(t))
		if err := change.make(); err != nil {
			t.Fatalf("%s: %v", change.id, err)
		}
		entries := s.entries(t)
		if len(entries) != before+1 {
			t.Errorf("%s: %d new entries: %+v", change.id, len(entries)-before, entries)
		}
		e := entries[0]
		if e.Action != change.action || change.target != "" && e.Target != change.target || e.Actor != cmp.Or(change.actor, "boss") ||
			(e.Role == "admin") != (change.actor == "") || !strings.HasPrefix(e.Remote, "127.0.0.1:") || e.Time.IsZero() {
			t.Errorf("%s is written down as %+v", change.id, e)
		}
	}
	for id := range left {
		t.Errorf("nobody has looked whether %s is in the audit log: add it to the table of this test", id)
	}
	for _, secret := range secrets {
		for _, e := range s.entries(t) {
			if text, err := json.Marshal(e); err != nil || secret == "" || bytes.Contains(text, []byte(secret[4:])) {
				t.Errorf("%v: a secret is in %s", err, text)
			}
		}
	}
}

// TestNothingToChange: what cannot change anything, however often it is tried,
// takes no place in the audit log.
func TestNothingToChange(t *testing.T) {
	s := serve(t, t.TempDir())
	ci, _ := s.as(t, "ci", v1.Contributor)
	before := len(s.entries(t))
	for range 3 {
		_, err := ci.Cancel(t.Context(), "no-such-job")
		wantRefusal(t, err, http.StatusNotFound, "no-such-job")
		err = ci.PutSnapshot(t.Context(), "no-digest", func(w io.Writer) error { _, err := w.Write(nil); return err })
		wantRefusal(t, err, http.StatusNotFound, "sha256")
	}
	if entries := s.entries(t); len(entries) != before {
		t.Errorf("%d new entries: %+v", len(entries)-before, entries)
	}
}

// TestUnwrittenChangeIsNotMade: without its audit log the relay changes nothing,
// and goes on showing what there is.
func TestUnwrittenChangeIsNotMade(t *testing.T) {
	s := serve(t, t.TempDir())
	s.setUp(t, "c")
	if err := s.Broker().JetStream().DeleteStream(t.Context(), "AUDIT"); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.client.Submit(t.Context(), sampleJob("iris", "c"))
	wantRefusal(t, err, http.StatusServiceUnavailable, "nothing was changed")
	_, err = s.client.CreateToken(t.Context(), v1.TokenSettings{Name: "ci", Role: v1.Reader})
	wantRefusal(t, err, http.StatusServiceUnavailable, "nothing was changed")
	_, err = s.client.Job(t.Context(), "iris")
	wantRefusal(t, err, http.StatusNotFound, "iris")
	if tokens, err := s.client.Tokens(t.Context()); err != nil || len(tokens) != 0 {
		t.Errorf("%+v, %v", tokens, err)
	}
}

// TestAuditPages: all entries come, once each, over several pages.
func TestAuditPages(t *testing.T) {
	s := serve(t, t.TempDir())
	ctx := t.Context()
	for range 7 {
		if err := s.Audit().Append(ctx, audit.Entry{Actor: "x y&z", Action: "job.cancel"}); err != nil {
			t.Fatal(err)
		}
	}
	status, body := s.request(t, http.MethodGet, "/v1/audit?limit=3&actor=x+y%26z&since=2026-01-01T00:00:00Z", s.config.Token, nil)
	var list v1.AuditList
	pages := 0
	for total := 0; ; pages++ {
		list = v1.AuditList{}
		if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK {
			t.Fatal(status, string(body), err)
		}
		total += len(list.Value)
		if list.NextLink == "" {
			if total != 7 || pages != 2 {
				t.Errorf("%d entries on %d pages", total, pages+1)
			}
			break
		}
		status, body = s.request(t, http.MethodGet, list.NextLink, s.config.Token, nil)
	}
	n := 0
	for e, err := range s.client.Audit(ctx, client.AuditQuery{Action: "job.*", Limit: 5}) {
		if err != nil || e.Actor != "x y&z" {
			t.Fatal(e, err)
		}
		n++
	}
	if n != 5 {
		t.Errorf("%d entries, want the 5 that were asked for", n)
	}
}

// TestRevokedReader: a stream does not outlive its token.
func TestRevokedReader(t *testing.T) {
	s := serve(t, t.TempDir())
	s.setUp(t, "c")
	submit(t, s.running, sampleJob("iris", "c"))
	reader, _ := s.as(t, "eve", v1.Reader)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for event, err := range reader.Stream(ctx, "iris", "") {
		if event.Status != nil {
			if err := s.client.RevokeToken(ctx, "eve"); err != nil {
				t.Fatal(err)
			}
		}
		last = err
	}
	refused := new(client.APIError)
	if !errors.As(last, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("the stream ended with %v", last)
	}
}

// TestStrangersAreSlowed: joining and agents' WebSockets have a pace, too, and
// the refusal says when to come again.
func TestStrangersAreSlowed(t *testing.T) {
	s := serve(t, t.TempDir())
	transport := &http.Transport{TLSClientConfig: s.trust()}
	defer transport.CloseIdleConnections()
	for _, tc := range []struct {
		method, path     string
		first, last, few int // statuses, and how many are let through at least
	}{
		{http.MethodPost, "/v1/agent/enrol", http.StatusUnprocessableEntity, http.StatusTooManyRequests, 50},
		{http.MethodGet, "/nats", http.StatusBadRequest, http.StatusServiceUnavailable, 300},
	} {
		through := 0
		for {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, s.config.URL+tc.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			// Whom a stranger says he comes for is not believed.
			req.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", through%256))
			req.Header.Set("Upgrade", "websocket")
			req.Header.Set("Connection", "Upgrade")
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == tc.last {
				if resp.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte("try again in ")) || through < tc.few {
					t.Errorf("%s: refused after %d with %v %s", tc.path, through, resp.Header, body)
				}
				break
			}
			if through++; resp.StatusCode != tc.first || through > 10*tc.few {
				t.Fatalf("%s: answer %d is %d %s", tc.path, through, resp.StatusCode, body)
			}
		}
	}
}

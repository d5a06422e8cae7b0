package join

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// TestJoin: a token becomes credentials, which the next process has without
// one.
func TestJoin(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	r.ca = string(r.authority.PEM)
	token := r.token()
	have := newPod(t, r, a).mount(t, token).joined(t)
	if have.Cluster != "onprem-1" || have.JoinedWith != token.ID() || len(have.SealSeeds) != 1 ||
		have.Trust.CA != r.ca || have.Trust.Keys[0] != r.key.Public() {
		t.Errorf("joined as %v with %+v", have, have.Trust)
	}
	r.has(1, have)
	a.holds(have)
	if diff := cmp.Diff(have, newPod(t, r, a).joined(t)); diff != "" {
		t.Errorf("the next process has others (-first +next):\n%s", diff)
	}
	if newPod(t, r, a).mount(t, token).joined(t); r.requests() != 1 {
		t.Errorf("the relay was asked %d times", r.requests())
	}
}

// TestManyPods: pods that start together join with one key.
func TestManyPods(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	token := r.token()
	var all [6]Credentials
	var running sync.WaitGroup
	for i := range all {
		p := newPod(t, r, a).mount(t, token)
		running.Go(func() {
			var err error
			if all[i], err = p.Await(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, have := range all {
		if diff := cmp.Diff(all[0], have); diff != "" {
			t.Errorf("two pods have different credentials (-one +other):\n%s", diff)
		}
	}
	r.has(1, all[0])
	a.holds(all[0])
}

// TestTwoBegin: of two pods that begin at the same time, the later takes the
// keys of the other, also where that one dies.
func TestTwoBegin(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	token := r.token()
	other, p := newPod(t, r, a), newPod(t, r, a).mount(t, token)
	var theirs pending
	a.before = func(int) int {
		a.before = nil
		now, err := other.read(t.Context())
		if err != nil {
			t.Error(err)
		}
		if theirs, _, err = other.begin(t.Context(), token, now); err != nil {
			t.Error(err)
		}
		return 0
	}
	have := p.joined(t)
	if theirs.Seed == "" || have.Seed != theirs.Seed {
		t.Error("joined with a key of its own")
	}
	r.has(1, have)
}

// TestCrash: a process that dies at any point of a join leaves what the next
// one finishes with the same key.
func TestCrash(t *testing.T) {
	dead := errors.New("the process dies here")
	for name, crash := range map[string]func(*relay, *api, context.CancelCauseFunc){
		"before the keys are written": func(_ *relay, a *api, die context.CancelCauseFunc) {
			a.before = func(n int) int { die(dead); return http.StatusInternalServerError }
		},
		"before the relay hears of them": func(r *relay, _ *api, die context.CancelCauseFunc) {
			r.instead = func(w http.ResponseWriter) bool { die(dead); return true }
		},
		"before the relay's answer arrives": func(r *relay, _ *api, die context.CancelCauseFunc) {
			r.after = func(*protocol.Enrol) { die(dead) }
		},
		"before the credentials are written": func(_ *relay, a *api, die context.CancelCauseFunc) {
			a.before = func(n int) int {
				if n == 1 {
					return 0
				}
				die(dead)
				return http.StatusInternalServerError
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, a := newRelay(t), newAPI(t)
			token := r.token()
			ctx, die := context.WithCancelCause(t.Context())
			crash(r, a, die)
			if _, err := newPod(t, r, a).mount(t, token).Await(ctx); err == nil || context.Cause(ctx) != dead {
				t.Fatalf("it did not die: %v", err)
			}
			r.mu.Lock()
			r.instead, r.after = nil, nil
			r.mu.Unlock()
			a.mu.Lock()
			a.before = nil
			a.mu.Unlock()
			have := newPod(t, r, a).mount(t, token).joined(t)
			r.has(1, have)
			a.holds(have)
		})
	}
}

// TestRefusedToken: what the relay says of a token is told, and asked for
// once, not again and again.
func TestRefusedToken(t *testing.T) {
	r := newRelay(t)
	expired, used := r.token(), r.token()
	r.tokens[expired.ID()] = "expired"
	newPod(t, r, newAPI(t)).mount(t, used).joined(t)
	unknown, err := protocol.NewJoinToken(r.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for want, token := range map[string]protocol.JoinToken{
		"used by another key": used,
		"has expired: run `trainrelay cluster connect` again": expired,
		"is unknown here": unknown,
	} {
		a := newAPI(t)
		p := newPod(t, r, a).mount(t, token)
		before := r.requests()
		for range 3 {
			_, err := p.Look(t.Context())
			if refusal := new(Refusal); !errors.As(err, &refusal) || !strings.Contains(err.Error(), want) {
				t.Fatalf("%v does not say %q", err, want)
			}
		}
		if ready := p.Ready(t.Context()); ready == nil || !strings.Contains(ready.Error(), "not joined: ") || !strings.Contains(ready.Error(), want) {
			t.Errorf("not ready: %v", ready)
		}
		if n := r.requests() - before; n != 1 {
			t.Errorf("the relay was asked %d times", n)
		}
		if got := strings.Count(p.log.String(), want); got != 1 {
			t.Errorf("logged %d times:\n%s", got, p.log)
		}
		// Another token is tried at once.
		r.has(len(r.keys)+1, p.mount(t, r.token()).joined(t))
	}
}

// TestRefusedTokenKeepsCredentials: a fresh token that the relay refuses, or
// that is none, takes nothing away.
func TestRefusedTokenKeepsCredentials(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	have := newPod(t, r, a).mount(t, r.token()).joined(t)
	expired := r.token()
	r.tokens[expired.ID()] = "expired"
	p := newPod(t, r, a).mount(t, expired)
	for range 2 {
		if diff := cmp.Diff(have, p.joined(t)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}
	if strings.Count(p.log.String(), "has expired") != 1 {
		t.Errorf("the log says %s", p.log)
	}
	if err := os.WriteFile(p.file, []byte("trj_hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(have, p.joined(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if strings.Contains(p.log.String(), "hunter2") || !strings.Contains(p.log.String(), "not a join token") {
		t.Errorf("the log says %s", p.log)
	}
}

// TestFailedJoinKeepsCredentials: whatever keeps a fresh token from use for now,
// an agent that has credentials goes on with them, and joins later.
func TestFailedJoinKeepsCredentials(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	have := newPod(t, r, a).mount(t, r.token()).joined(t)
	p := newPod(t, r, a).mount(t, r.token())
	r.mu.Lock()
	r.instead = func(w http.ResponseWriter) bool { problem(w, http.StatusInsufficientStorage, "full"); return true }
	r.mu.Unlock()
	if diff := cmp.Diff(have, p.joined(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if !p.Pending() || !strings.Contains(p.log.String(), "going on with the credentials that are there") {
		t.Errorf("the token does not wait; the log says %s", p.log)
	}
	r.mu.Lock()
	r.instead = nil
	r.mu.Unlock()
	if now := p.joined(t); now.Equal(have) || p.Pending() {
		t.Error("it has not joined once it could")
	}
}

// TestJoinAgain: a new token gives a new key; what pods and sealed values of
// before need stays.
func TestJoinAgain(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	before := newPod(t, r, a).mount(t, r.token()).joined(t)
	for i := range maxSealSeeds + 1 {
		after := newPod(t, r, a).mount(t, r.token()).joined(t)
		if after.Seed == before.Seed || after.SealSeeds[1] != before.SealSeeds[0] || string(after.GatewaySeed) != string(before.GatewaySeed) {
			t.Fatalf("joined again with %d keys to seal to", len(after.SealSeeds))
		}
		if n := len(after.SealSeeds); n != min(i+2, maxSealSeeds) {
			t.Errorf("%d keys to seal to after joining %d times", n, i+2)
		}
		r.has(i+2, after)
		before = after
	}
	// The Secret was lost: one token is enough.
	a.set(nil)
	after := newPod(t, r, a).mount(t, r.token()).joined(t)
	if after.Seed == before.Seed || len(after.SealSeeds) != 1 || string(after.GatewaySeed) == string(before.GatewaySeed) {
		t.Error("a lost key is still there")
	}
}

// TestWaits: without a token, or without the Secret, the cluster waits and says
// what for; what is there later is taken.
func TestWaits(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	p := newPod(t, r, a)
	if err := p.Ready(t.Context()); err == nil {
		t.Error("ready before anything was looked at")
	}
	says := func(want string) {
		t.Helper()
		_, err := p.Look(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not ready: %v does not say %q", err, want)
		}
	}
	says("`trainrelay cluster connect --name NAME`")
	a.set(map[string][]byte{credentialsKey: []byte(`{"cluster":"c","nkey_seed":"SUHUNTER2"}`)})
	says("nkey_seed: not the seed of an nkey")
	a.set(map[string][]byte{credentialsKey: []byte("\x00")})
	says("not the JSON that the agent writes")
	if strings.Contains(p.log.String(), "HUNTER2") {
		t.Errorf("the log has a seed: %s", p.log)
	}
	secret := a.secret
	a.secret = nil
	says("there is no Secret trainrelay-agent, which the chart makes")
	a.secret = secret

	joined := make(chan error, 1)
	go func() {
		_, err := p.Await(t.Context())
		joined <- err
	}()
	p.mount(t, r.token())
	select {
	case err := <-joined:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a token that came later is not used")
	}
}

// TestNoRelay: what is in the relay's place is told from the relay's no.
func TestNoRelay(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	token := r.token()
	for want, instead := range map[string]func(http.ResponseWriter){
		"503 Service Unavailable, which is no relay's answer": func(w http.ResponseWriter) { http.Error(w, "hunter2", http.StatusServiceUnavailable) },
		"401 Unauthorized, which is no relay's answer":        func(w http.ResponseWriter) { http.Error(w, "{}", http.StatusUnauthorized) },
		"too many tries":                 func(w http.ResponseWriter) { problem(w, http.StatusTooManyRequests, "too many tries\x1b[2J") },
		"the relay's answer to the join": func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
	} {
		r.instead = func(w http.ResponseWriter) bool { instead(w); return true }
		_, err := newPod(t, r, a).mount(t, token).Look(t.Context())
		if refusal := new(Refusal); err == nil || errors.As(err, &refusal) || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\x1b") {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	r.instead = nil
	r.has(1, newPod(t, r, a).mount(t, token).joined(t))
}

// TestSaveTrust: what to trust changes for the credentials that it was learnt
// with, and for no others, whoever else writes.
func TestSaveTrust(t *testing.T) {
	r, a := newRelay(t), newAPI(t)
	p := newPod(t, r, a).mount(t, r.token())
	have := p.joined(t)
	other, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	trust := protocol.Trust{Keys: []protocol.RelayKey{r.key.Public(), other.Public()}}
	a.before = func(int) int {
		a.before = nil
		a.set(a.secret.Data) // another pod wrote meanwhile
		return 0
	}
	if err := p.SaveTrust(t.Context(), have, trust); err != nil {
		t.Fatal(err)
	}
	if a.before != nil {
		t.Error("nothing was in between")
	}
	now := p.joined(t)
	if loaded, err := p.LoadTrust(t.Context(), have); err != nil || loaded.Digest() != trust.Digest() {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	have.Trust = trust
	if diff := cmp.Diff(have, now); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	trust.CA = "not PEM"
	if err := p.SaveTrust(t.Context(), have, trust); err == nil {
		t.Error("an authority that is none was saved")
	}
	trust.CA = string(testkit.NewAuthority(t).PEM)
	p.mount(t, r.token()).joined(t)
	if err := p.SaveTrust(t.Context(), have, trust); err == nil || p.joined(t).Trust.CA != "" {
		t.Errorf("saved for other credentials: %v", err)
	}
	if _, err := p.LoadTrust(t.Context(), have); err == nil {
		t.Error("loaded for other credentials")
	}
}

// TestPrinted: credentials in a log are none.
func TestPrinted(t *testing.T) {
	c := Credentials{Cluster: "c", Seed: "SUSECRET", SealSeeds: []string{"SXSECRET"}, GatewaySeed: []byte("SECRET")}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s", c, c, c), fmt.Sprintf("%+v", &c)} {
		if strings.Contains(text, "SECRET") {
			t.Errorf("printed as %s", text)
		}
	}
}

// FuzzRefusal: whatever answers, the words are a line that can be printed.
func FuzzRefusal(f *testing.F) {
	f.Add(401, "application/problem+json", []byte(`{"detail":"this join token is unknown here"}`))
	f.Add(410, "application/problem+json; charset=utf-8", []byte("{\"detail\":\"a\\u001b[2Jb\\nc\xff\"}"))
	f.Add(502, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		err := refusal(status, kind, body)
		if err == nil || strings.ContainsAny(err.Error(), "\n\r\x1b\x00") || len(err.Error()) > 3<<10 {
			t.Errorf("%q", err)
		}
	})
}

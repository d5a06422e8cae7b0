package relay

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/audit"
	"github.com/trainrelay/trainrelay/relay/signing"
)

func rotate(t *testing.T, r *running) string {
	t.Helper()
	key, err := r.Keys().Rotate("admin")
	if err != nil {
		t.Fatal(err)
	}
	return key.ID
}

// signer is who signed the answer to a sync that trusts the agent's keys.
func (a *agent) signer() string {
	a.t.Helper()
	s := &protocol.Sync{Nonce: "nonce-of-a-probe-", Session: a.session, Term: a.term}
	for _, key := range a.trust.Keys {
		s.Keys = append(s.Keys, key.ID())
	}
	data, err := send(a, protocol.VerbSync, s)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, key := range a.trust.Keys {
		if protocol.DecodeSigned(data, new(protocol.SyncReply), []protocol.RelayKey{key}) == nil {
			return key.ID()
		}
	}
	a.t.Fatalf("signed by nobody that the agent trusts: %s", data)
	return ""
}

// TestKeysRotateUnderLoad: jobs are granted at every moment while keys are
// rotated and retired and the relay restarts in the middle; no agent ever meets
// an answer that it cannot believe.
func TestKeysRotateUnderLoad(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.join()
	next := 0
	run := func(n int) {
		t.Helper()
		for range n {
			next++
			name := fmt.Sprintf("job-%d", next)
			submit(t, r, sampleJob(name, "c"))
			wantStarts(t, a.room(1), attempt(name, 1))
			a.observe(attempt(name, 1), protocol.Running, protocol.Completed)
		}
	}
	first := a.signer()
	for range 3 {
		old := a.signer()
		fresh := rotate(t, r)
		if got := a.signer(); got != old {
			t.Fatalf("answered with %s before the agent was told of it", got)
		}
		if _, err := r.Keys().Retire(old, r.Jobs().Trusting(), false); !errors.Is(err, signing.ErrNeeded) {
			t.Fatalf("retired a key that the cluster needs: %v", err)
		}
		run(1) // brings the new key
		// A relay that restarts in the middle goes on with both.
		a.conn.Close()
		r.stop()
		r = start(t, Options{Data: data})
		trust := a.trust
		a = lead(t, r, "c", "after-"+fresh, key)
		a.trust = trust
		a.join()
		if got := a.signer(); got != fresh {
			t.Fatalf("answered with %s, the agent trusts the newer %s", got, fresh)
		}
		run(2)
		// While jobs go on, the old one ends.
		var retired sync.WaitGroup
		retired.Go(func() {
			if _, err := r.Keys().Retire(old, r.Jobs().Trusting(), false); err != nil {
				t.Errorf("retire %s: %v", old, err)
			}
		})
		run(5)
		retired.Wait()
		run(1)
		if len(a.trust.Keys) != 1 || a.trust.Keys[0].ID() != fresh {
			t.Fatalf("the agent trusts %d keys after the old one was retired", len(a.trust.Keys))
		}
	}
	if a.signer() == first {
		t.Error("nothing was rotated")
	}
}

// TestNewAuthority: agents learn of another authority while they still get
// through under the old one, and once.
func TestNewAuthority(t *testing.T) {
	var mu sync.Mutex
	ca := "old"
	r := start(t, Options{Data: t.TempDir(), Authority: func() string { mu.Lock(); defer mu.Unlock(); return ca }})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.trust.CA = "old"
	if reply := a.sync(protocol.Sync{Full: true, Last: true}); reply.Trust != nil {
		t.Error("told what it knows")
	}
	mu.Lock()
	ca = "old\nnew"
	mu.Unlock()
	if reply := a.room(0); reply.Trust == nil || reply.Trust.CA != "old\nnew" {
		t.Errorf("trust %+v", reply.Trust)
	}
	if reply := a.room(0); reply.Trust != nil {
		t.Error("told again")
	}
}

// TestLostSigningKeys: a relay whose keys are gone while clusters trust them
// does not start, and says what to do; forced, the clusters do not believe it.
func TestLostSigningKeys(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.join()
	a.conn.Close()
	r.stop()
	if err := os.RemoveAll(filepath.Join(data, "signing")); err != nil {
		t.Fatal(err)
	}
	lost, err := New(Options{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "trusted by c") || !strings.Contains(err.Error(), "--new-signing-key") {
		t.Fatalf("started with %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "signing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	r = start(t, Options{Data: data, NewSigningKey: true})
	again := lead(t, r, "c", "two", key)
	again.trust = a.trust
	breach := new(protocol.Breach)
	if _, err := again.trySync(protocol.Sync{Full: true, Last: true}); !errors.As(err, &breach) || breach.Kind != protocol.UnknownKey {
		t.Errorf("answered with %v", err)
	}
}

// TestRolledBackKeys: a relay whose data folder is as it was before a rotation
// goes on with the key that agents still trust, and they unlearn the other.
func TestRolledBackKeys(t *testing.T) {
	data := t.TempDir()
	r := start(t, Options{Data: data})
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.join()
	first := a.signer()
	file := filepath.Join(data, "signing", "keys.json")
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, r)
	a.room(0)
	if len(a.trust.Keys) != 2 {
		t.Fatalf("the agent trusts %d keys", len(a.trust.Keys))
	}
	a.conn.Close()
	r.stop()
	if err := os.WriteFile(file, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, Options{Data: data})
	again := lead(t, r, "c", "two", key)
	again.trust = a.trust
	again.join()
	submit(t, r, sampleJob("iris", "c"))
	wantStarts(t, again.room(1), attempt("iris", 1))
	if len(again.trust.Keys) != 1 || again.signer() != first {
		t.Errorf("trusts %d keys, answered with %s, want %s", len(again.trust.Keys), again.signer(), first)
	}
}

// TestIncidentsAreAudited: what an agent did not believe is in the audit log,
// once, and shown with its cluster.
func TestIncidentsAreAudited(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	incident := protocol.Incident{Time: time.Now().UTC(), Kind: protocol.Forged, Message: "its signature is wrong", Count: 3}
	for range 3 { // the answers to the first ones got lost
		a.sync(protocol.Sync{Full: true, Last: true, Incidents: []protocol.Incident{incident}})
	}
	entries, _, err := r.Audit().List(t.Context(), audit.Query{Action: "security.incident"})
	if err != nil || len(entries) != 1 || entries[0].Actor != "agent:c" || !strings.Contains(entries[0].Detail, "forged, 3 times") {
		t.Errorf("%+v, %v", entries, err)
	}
	c, err := r.Jobs().Cluster(t.Context(), "c")
	if err != nil || c.Incidents == nil || c.Incidents.Count != 3 || c.Incidents.Last != incident {
		t.Errorf("%+v, %v", c.Incidents, err)
	}
}

// TestKeyOfAJoinToken: a token on its way names one key, which is not retired
// behind its back; where it is by force, the token is void and says so, and the
// agent that has joined before goes on.
func TestKeyOfAJoinToken(t *testing.T) {
	s := serve(t, t.TempDir())
	first := s.Keys().Current().Public().ID()
	before := s.join(t, "c")
	token, err := s.client.Connect(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	fresh := rotate(t, s.running)
	if err := s.Jobs().Trusts(t.Context(), "c", []string{first, fresh}); err != nil { // as its agent says with a sync
		t.Fatal(err)
	}
	keys, err := s.client.Keys(t.Context())
	if err != nil || len(keys) != 2 || !slices.Equal(keys[1].NeededBy, []string{"c/join-token"}) || !slices.Equal(keys[1].TrustedBy, []string{"c"}) {
		t.Fatalf("%+v, %v", keys, err)
	}
	refused := new(client.APIError)
	if _, err := s.client.RetireKey(t.Context(), first, false); !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(err.Error(), "c/join-token") {
		t.Errorf("retired with %v", err)
	}
	retired, err := s.client.RetireKey(t.Context(), first, true)
	if err != nil || !slices.Equal(retired.MustJoinAgain, []string{"c/join-token"}) {
		t.Errorf("%+v, %v", retired, err)
	}
	if _, err := s.enrol(t, token.Token); err == nil || !strings.Contains(err.Error(), "410") || !strings.Contains(err.Error(), "was retired") {
		t.Errorf("a token that names no key: %v", err)
	}
	if cluster, ok := s.Jobs().ClusterOf(public(t, before.Key)); cluster != "c" || !ok {
		t.Error("the agent that had joined lost its key for nothing")
	}
	s.join(t, "c")
}

// TestKeyOfANewcomer: a cluster that has joined and not synced yet needs the
// keys that it has just learnt; the API says so, and what it costs to go on.
func TestKeyOfANewcomer(t *testing.T) {
	s := serve(t, t.TempDir())
	s.join(t, "c")
	rotate(t, s.running)
	keys, err := s.client.Keys(t.Context())
	if err != nil || len(keys) != 2 || !keys[0].Current || !slices.Equal(keys[1].NeededBy, []string{"c"}) {
		t.Fatalf("%+v, %v", keys, err)
	}
	refused := new(client.APIError)
	if _, err := s.client.RetireKey(t.Context(), keys[1].ID, false); !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(err.Error(), "--force") {
		t.Errorf("retired with %v", err)
	}
	retired, err := s.client.RetireKey(t.Context(), keys[1].ID, true)
	if err != nil || !slices.Equal(retired.MustJoinAgain, []string{"c"}) {
		t.Errorf("%+v, %v", retired, err)
	}
	s.join(t, "c") // again, and all is well
	if keys, err = s.client.Keys(t.Context()); err != nil || len(keys) != 1 || !slices.Equal(keys[0].TrustedBy, []string{"c"}) {
		t.Errorf("%+v, %v", keys, err)
	}
	entries, _, err := s.Audit().List(t.Context(), audit.Query{Action: "key.*"})
	if err != nil || len(entries) != 3 { // refused, said so, by force
		t.Errorf("%+v, %v", entries, err)
	}
}

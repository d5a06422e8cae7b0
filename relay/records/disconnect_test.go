package records

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// setupKeys are the keys of the setup's bucket.
func setupKeys(t *testing.T, s *Store) []string {
	t.Helper()
	keys, err := s.plan.Keys(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}

// atWork makes cluster "c" that has synced, with a job that runs and one that
// waits.
func atWork(t *testing.T, s *Store) {
	t.Helper()
	withCompute(t, s)
	if _, _, err := s.Term(t.Context(), "c", "session", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Trusts(t.Context(), "c", []string{"key"}); err != nil {
		t.Fatal(err)
	}
	s.Seen("c", &protocol.Sync{}, 0)
	if _, err := s.Report(t.Context(), "c", forged(time.Unix(1, 0), 1)); err != nil {
		t.Fatal(err)
	}
	submit(t, s, sample("running"))
	if _, ok, err := s.Claim(t.Context(), "c", "running"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	submit(t, s, sample("waiting"))
}

func wantJob(t *testing.T, s *Store, name string, state protocol.State, reason string) {
	t.Helper()
	if job, err := s.Job(t.Context(), name); err != nil || job.Status != state || job.Reason == nil || !strings.Contains(job.Reason.Message, reason) {
		t.Errorf("job %s is %s (%v), %v; want %s with %q", name, job.Status, job.Reason, err, state, reason)
	}
}

// TestNothingIsLeft: of a cluster that is disconnected, nothing stays but its
// computes and jobs, and a cluster of its name begins anew. A detach that
// leaves its residue makes the next attach fail.
func TestNothingIsLeft(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	var left []string
	cut := new(revoked)
	s, _ := open(t, js, Options{Revoked: cut.add, Left: func(cluster string) { left = append(left, cluster) }})
	atWork(t, s)
	if keys, want := setupKeys(t, s), []string{"cluster.c", "compute.c", "report.c", "term.c", "trust.c"}; !slices.Equal(keys, want) {
		t.Fatalf("%q, want %q", keys, want)
	}
	gone, err := s.Disconnect(t.Context(), "c", "ann", false)
	if want := (v1.Disconnection{Cluster: "c", LiveJobs: 1}); err != nil || gone != want {
		t.Errorf("%+v, %v", gone, err)
	}
	// Terms of attempts that live must not begin again.
	if keys, want := setupKeys(t, s), []string{"compute.c", "term.c"}; !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
	if len(cut.take()) != 1 || !slices.Equal(left, []string{"c"}) || !s.setup.presence("c").at.IsZero() {
		t.Errorf("left %q, presence %v", left, s.setup.presence("c"))
	}
	wantJob(t, s, "running", protocol.NotResponding, "was disconnected")
	wantJob(t, s, "waiting", protocol.Queued, "was disconnected")
	// What was on its way leaves nothing, and is given nothing.
	s.Seen("c", &protocol.Sync{}, 0)
	if _, _, err := s.Term(t.Context(), "c", "session", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("a late sync: %v", err)
	}
	if err := s.Trusts(t.Context(), "c", []string{"other"}); err != nil || !s.setup.presence("c").at.IsZero() {
		t.Error(err)
	}
	if news, err := s.Report(t.Context(), "c", forged(time.Unix(2, 0), 1)); err != nil || len(news) > 0 || s.setup.report("c").Incidents.Count > 0 {
		t.Errorf("a late report: %v, %v", news, err)
	}
	if _, ok, err := s.Claim(t.Context(), "c", "waiting"); ok || err != nil {
		t.Errorf("a late claim: %v, %v", ok, err)
	}
	if _, err := s.Disconnect(t.Context(), "c", "ann", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("once more: %v", err)
	}

	// The cluster comes back and ends what it had; then nothing is left of it.
	joined(t, s, "c")
	if term, _, err := s.Term(t.Context(), "c", "next", 0); err != nil || term != 2 {
		t.Errorf("term %d, %v; want one above that of the attempts that live", term, err)
	}
	end := protocol.Event{Ref: protocol.Ref{Job: "running", Attempt: 1}, Version: protocol.Version{Term: 2, Seq: 1}, State: protocol.Completed, Time: time.Now()}
	if _, err := s.Fold(t.Context(), "c", []protocol.Event{end}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Disconnect(t.Context(), "c", "ann", false); err != nil {
		t.Fatal(err)
	}
	if keys, want := setupKeys(t, s), []string{"compute.c"}; !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
}

// TestGoneIsForgotten: of what is no more, nothing stays in memory for longer
// than other relays may need to hear of it.
func TestGoneIsForgotten(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	now := time.Now()
	s.opts.Now = func() time.Time { return now }
	createToken(t, s, "ci", v1.Reader)
	createToken(t, s, "stays", v1.Reader)
	if err := s.RevokeToken(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	joined(t, s, "c")
	if _, err := s.Disconnect(t.Context(), "c", "ann", false); err != nil {
		t.Fatal(err)
	}
	rows := func() (n int) {
		for _, count := range []func() int{s.setup.tokens.count, s.setup.clusters.count} {
			n += count()
		}
		return n
	}
	for _, want := range []int{3, 1} {
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := rows(); got != want {
			t.Errorf("%d rows, want %d", got, want)
		}
		now = now.Add(markerTTL + time.Minute)
	}
}

// count is how many rows there are, the gone ones included.
func (t *table[T]) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.rows)
}

// TestTermIsSwept: the term that was kept for attempts goes with them.
func TestTermIsSwept(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	atWork(t, s)
	if _, err := s.Disconnect(t.Context(), "c", "ann", false); err != nil {
		t.Fatal(err)
	}
	end := protocol.Event{Ref: protocol.Ref{Job: "running", Attempt: 1}, Version: protocol.Version{Term: 1, Seq: 1}, State: protocol.Completed, Time: time.Now()}
	if _, err := s.Fold(t.Context(), "c", []protocol.Event{end}); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys, want := setupKeys(t, s), []string{"compute.c"}; !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
}

// TestDisconnectCancels: the agent is told before its key is void; the queued
// jobs end at once, also where the caller has gone.
func TestDisconnectCancels(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	cut := new(revoked)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []protocol.Ref
	s, _ := open(t, js, Options{Revoked: cut.add, Told: func(_ context.Context, cluster string, attempts []protocol.Ref) bool {
		told = attempts
		if cluster != "c" || len(cut.take()) != 0 {
			t.Errorf("cluster %s was cut before it was told", cluster)
		}
		cancel()
		return true
	}})
	atWork(t, s)
	gone, err := s.Disconnect(ctx, "c", "ann", true)
	if want := (v1.Disconnection{Cluster: "c", CanceledJobs: 1, LiveJobs: 1, Told: true}); err != nil || gone != want {
		t.Errorf("%+v, %v", gone, err)
	}
	if want := []protocol.Ref{{Job: "running", Attempt: 1}}; !slices.Equal(told, want) || len(cut.take()) != 1 {
		t.Errorf("told %v", told)
	}
	wantJob(t, s, "waiting", protocol.Canceled, "cluster c was disconnected by ann")
	wantJob(t, s, "running", protocol.NotResponding, "the job was CancelRequested")
	joined(t, s, "c")
	wantJob(t, s, "running", protocol.CancelRequested, "cluster c was disconnected by ann")
}

// TestDisconnectIsEnded: one that the relay began and did not end goes on with
// its next start; until then its cluster is given no work and no new token.
func TestDisconnectIsEnded(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, stop := open(t, js, Options{})
	atWork(t, s)
	_, err := s.changeCluster(t.Context(), "c", func(c *cluster, _ bool) error {
		c.Join, c.Leaving = nil, &leaving{By: "ann", At: s.now()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Claim(t.Context(), "c", "waiting"); ok || err != nil {
		t.Errorf("a claim: %v, %v", ok, err)
	}
	if _, err := s.Connect(t.Context(), "c", strings.Repeat("0", 64), "key", time.Now(), "bob"); !errors.Is(err, ErrConflict) {
		t.Errorf("a new token: %v", err)
	}
	stop() // the crash
	s, _ = open(t, js, Options{})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := s.Cluster(t.Context(), "c"); errors.Is(err, ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the disconnection was not ended")
		}
		time.Sleep(time.Millisecond)
	}
	wantJob(t, s, "waiting", protocol.Canceled, "cluster c was disconnected by ann")
}

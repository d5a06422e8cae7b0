package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestFrontStopsFirst: the rooms work until the front has stopped.
func TestFrontStopsFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(Options{Data: t.TempDir(), Front: func(ctx context.Context, r *Relay) error {
		cancel()
		<-ctx.Done()
		_, err := r.Jobs().Clusters(context.WithoutCancel(ctx))
		return errors.Join(err, r.Broker().Ready(context.WithoutCancel(ctx)))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	broken, err := New(Options{Data: t.TempDir(), Front: func(context.Context, *Relay) error { return errors.New("port taken") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "port taken") {
		t.Errorf("a front that fails: %v", err)
	}
}

// TestOutput: an agent's output is taken, once, and read by users.
func TestOutput(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	submit(t, r, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	chunk := &protocol.LogChunk{Ref: attempt("job", 1), Data: []byte("hello\n"), EOF: true,
		To: protocol.LogPosition{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Lines: 1}}
	for i, taken := range []bool{true, false} {
		reply := new(protocol.LogReply)
		if err := ask(a, protocol.VerbLog, chunk, reply); err != nil || reply.Taken != taken || !reply.EOF {
			t.Errorf("sent %d times: %+v, %v", i+1, reply, err)
		}
	}
	for got, err := range r.Logs().Follow(t.Context(), "job", 0) {
		if err != nil || string(got.Text) != "hello\n" || !got.EOF {
			t.Errorf("%+v, %v", got, err)
		}
		break
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, Options{Data: t.TempDir(), Registerer: registry})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	a.join()
	for _, name := range []string{"one", "two", "three"} {
		submit(t, r, sampleJob(name, "c"))
	}
	wantStarts(t, a.room(1), attempt("one", 1))
	a.observe(attempt("one", 1), protocol.Running, protocol.Completed)
	a.tell(a.event(attempt("one", 1), protocol.Failed))
	if _, err := a.conn.Request("up.c.sync", []byte("junk"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"trainrelay_jobs Queued":           2,
		"trainrelay_jobs Completed":        1,
		"trainrelay_queued_jobs c":         2,
		"trainrelay_jobs_submitted_total":  3,
		"trainrelay_claims_total":          1,
		"trainrelay_events_total folded":   2,
		"trainrelay_events_total conflict": 1,
		"trainrelay_dead_letters_total":    1,
		"trainrelay_connected_clusters":    1,
		"trainrelay_starts_total new":      1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

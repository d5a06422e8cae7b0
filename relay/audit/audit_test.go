package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a NATS server until the test ends or stop is called.
func serve(t *testing.T, dir string) (js jetstream.JetStream, stop func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncAlways: true, JetStreamMaxStore: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	if js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		conn.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	t.Cleanup(stop)
	return js, stop
}

func open(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendAll(t *testing.T, l *Log, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// targets are the targets of the selected entries, page by page.
func targets(t *testing.T, l *Log, q Query) (targets []string, pages int) {
	t.Helper()
	for {
		entries, next, err := l.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, e := range entries {
			targets = append(targets, e.Target)
		}
		if q.Before = next; next == 0 {
			return targets, pages
		}
	}
}

func TestList(t *testing.T) {
	js, _ := serve(t, t.TempDir())
	l := open(t, Options{JetStream: js})
	appendAll(t, l,
		Entry{Actor: "admin", Action: "token.create", Target: "a"},
		Entry{Actor: "ci", Action: "job.submit", Target: "b"},
		Entry{Actor: "admin", Action: "token.revoke", Target: "c"})
	middle := time.Now()
	appendAll(t, l, Entry{Actor: "ci", Action: "job.cancel", Target: "d"}, Entry{Actor: "agent:x", Action: "cluster.enrol", Target: "e"})
	for _, tc := range []struct {
		query Query
		want  string
		pages int
	}{
		{Query{}, "edcba", 1},
		{Query{Limit: 2}, "edcba", 3},
		{Query{Limit: 5}, "edcba", 1},
		{Query{Since: middle}, "ed", 1},
		{Query{Actor: "ci"}, "db", 1},
		{Query{Actor: "ci", Limit: 1}, "db", 3},
		{Query{Action: "token.*"}, "ca", 1},
		{Query{Action: "token.create"}, "a", 1},
		{Query{Action: "token"}, "", 1},
		{Query{Actor: "nobody"}, "", 1},
	} {
		got, pages := targets(t, l, tc.query)
		if strings.Join(got, "") != tc.want || pages != tc.pages {
			t.Errorf("%+v: %q on %d pages, want %q on %d", tc.query, got, pages, tc.want, tc.pages)
		}
	}
}

// TestAppendOnly: what the broker's own API can do to other streams it cannot
// do to this one, and an entry outlives a restart.
func TestAppendOnly(t *testing.T) {
	dir := t.TempDir()
	js, stop := serve(t, dir)
	l := open(t, Options{JetStream: js})
	appendAll(t, l, Entry{Actor: "admin", Action: "token.create", Target: "a"})
	stream, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an entry can be deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the log can be purged")
	}
	loose := stream.CachedInfo().Config
	loose.DenyDelete, loose.DenyPurge = false, false
	if _, err := js.UpdateStream(t.Context(), loose); err == nil {
		t.Error("the log can be made one that can be purged")
	}
	if err := stream.SecureDeleteMsg(t.Context(), 1); err == nil {
		t.Error("an entry can be overwritten")
	}
	stop()
	js, _ = serve(t, dir)
	if got, _ := targets(t, open(t, Options{JetStream: js}), Query{}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after a restart: %q", got)
	}
}

// TestBounded: the oldest entries make place, and one cannot take all of it.
func TestBounded(t *testing.T) {
	js, _ := serve(t, t.TempDir())
	l := open(t, Options{JetStream: js, MaxBytes: 64 << 10})
	long := strings.Repeat("ü", 1<<20)
	for i := range 100 {
		appendAll(t, l, Entry{Actor: long, Action: "login.refused", Target: fmt.Sprint(i), Detail: long, Remote: "\xff"})
	}
	entries, _, err := l.List(t.Context(), Query{Limit: 1000})
	if err != nil || len(entries) < 10 || len(entries) >= 100 || entries[0].Target != "99" {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if e := entries[0]; len(e.Actor) > maxName || len(e.Detail) > maxDetail || !strings.HasSuffix(e.Detail, "ü…") || e.Remote != "�" {
		t.Errorf("%d, %d, %q", len(e.Actor), len(e.Detail), e.Remote)
	}
}

func gauges(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]float64{}
	for _, family := range families {
		shown[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	return shown
}

// TestEarlyEnd: how full the log is, and how far back it goes, is known, and
// that entries go for want of room is said; that they go by age is as it should
// be.
func TestEarlyEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		opts Options
		warn bool
	}{
		"by size": {Options{MaxBytes: 8 << 10, MaxAge: time.Hour}, true},
		"by age":  {Options{MaxBytes: 1 << 30, MaxAge: time.Second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			js, _ := serve(t, t.TempDir())
			var said bytes.Buffer
			registry := prometheus.NewRegistry()
			tc.opts.JetStream, tc.opts.Log, tc.opts.Registerer = js, zerolog.New(&said), registry
			l := open(t, tc.opts)
			look := func() {
				t.Helper()
				if err := l.look(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			look()
			appendAll(t, l, Entry{Action: "job.submit"})
			look()
			if shown := gauges(t, registry); shown["trainrelay_audit_bytes"] <= 0 || shown["trainrelay_audit_oldest_seconds"] <= 0 || said.Len() > 0 {
				t.Errorf("%v: %s", shown, &said)
			}
			first := l.watch.last.FirstSeq
			for deadline := time.Now().Add(10 * time.Second); l.watch.last.FirstSeq == first; look() {
				appendAll(t, l, Entry{Action: "job.submit", Detail: strings.Repeat("x", 500)})
				if time.Now().After(deadline) {
					t.Fatal("no entry goes")
				}
			}
			if warned := strings.Contains(said.String(), "before their time"); warned != tc.warn {
				t.Errorf("warned: %v, want %v: %s", warned, tc.warn, &said)
			}
			before := said.Len()
			for range 30 {
				appendAll(t, l, Entry{Action: "job.submit", Detail: strings.Repeat("x", 500)})
				look()
			}
			if said.Len() != before {
				t.Errorf("said again: %s", &said)
			}
		})
	}
}

// TestOneLine: whatever strangers put into a text, an entry is one line.
func TestOneLine(t *testing.T) {
	js, _ := serve(t, t.TempDir())
	l := open(t, Options{JetStream: js})
	appendAll(t, l, Entry{Actor: "a\nb", Action: "job.submit", Target: "x\ty\r", Detail: "\x1b[2Jgone \u2028\u202eevil\x00ü", Remote: "1\n"})
	entries, _, err := l.List(t.Context(), Query{})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	want := Entry{Time: entries[0].Time, Actor: "a b", Action: "job.submit", Target: "x y ", Detail: "�[2Jgone  �evil�ü", Remote: "1 "}
	if entries[0] != want {
		t.Errorf("%+q", entries[0])
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	js, stop := serve(t, t.TempDir())
	l := open(t, Options{JetStream: js})
	for _, action := range []string{"", "token create", "token.", ">", "a.*", "A"} {
		if err := l.Append(t.Context(), Entry{Action: action}); err == nil {
			t.Errorf("%q is taken as an action", action)
		}
	}
	stop()
	if err := l.Append(t.Context(), Entry{Action: "token.create"}); err == nil {
		t.Error("an entry is said to be written, and there is no store")
	}
}

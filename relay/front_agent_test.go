package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/agentauth"
	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/snapshot"
	"github.com/trainrelay/trainrelay/internal/snapshot/pack"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/records"
)

type natsConn = nats.Conn

var allJobs = records.Query{}

// trust is what a client of the relay trusts.
func (s *served) trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.config.CA))
	return &tls.Config{RootCAs: pool}
}

// dialFront connects an agent the way agents do, by the public port.
func (s *served) dialFront(t *testing.T, cluster string, kp nkeys.KeyPair) *nats.Conn {
	t.Helper()
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(strings.Replace(s.config.URL, "https", "wss", 1), nats.ProxyPath("/nats"), nats.Secure(s.trust()),
		nats.Nkey(public, kp.Sign), nats.CustomInboxPrefix(protocol.InboxPrefix(cluster)), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// leadFront connects a leading agent by the public port.
func (s *served) leadFront(t *testing.T, cluster string, kp nkeys.KeyPair) *agent {
	t.Helper()
	a := &agent{t: t, cluster: cluster, session: "session-of-the-agent-in-" + cluster, conn: s.dialFront(t, cluster, kp), trust: s.Keys().Trust("")}
	a.join()
	return a
}

// output ships a chunk of one rank, behind those before it.
func (a *agent) output(ref protocol.Ref, rank int, from uint32, text string, eof bool) {
	a.t.Helper()
	chunk := &protocol.LogChunk{Ref: ref, Rank: rank, From: at(from), To: at(from + 1), Data: []byte(text), EOF: eof}
	reply := new(protocol.LogReply)
	if err := ask(a, protocol.VerbLog, chunk, reply); err != nil || !reply.Taken {
		a.t.Fatalf("chunk %q: %+v, %v", text, reply, err)
	}
}

// at is the position behind n lines.
func at(n uint32) protocol.LogPosition {
	if n == 0 {
		return protocol.LogPosition{}
	}
	return protocol.LogPosition{Time: time.Unix(1700000000, 0).UTC(), Lines: n}
}

// TestStreamOfOutput: all ranks' output arrives, the stream ends when it is
// complete, and one that goes on repeats nothing and still knows when to end.
func TestStreamOfOutput(t *testing.T) {
	s := serve(t, t.TempDir())
	a := s.leadFront(t, "c", s.setUp(t, "c"))
	job := sampleJob("iris", "c")
	job.Instances = 2
	submit(t, s.running, job)
	ref := attempt("iris", 1)
	wantStarts(t, a.room(1), ref)
	a.observe(ref, protocol.Running)
	a.output(ref, 1, 0, "of one\n", false)
	a.output(ref, 1, 1, "", true)
	a.output(ref, 0, 0, "first\n", false)

	follow := func(from string, until func(client.Event) bool) (texts []string, last string, end *client.Event) {
		t.Helper()
		for event, err := range s.client.Stream(t.Context(), "iris", from) {
			switch {
			case err != nil || event.Lost != nil || event.Gap != nil:
				t.Fatal(err, event.Lost, event.Gap)
			case event.Log != nil:
				texts, last = append(texts, fmt.Sprint(event.Log.Rank, " ", event.Log.Text)), event.ID
			case event.End != nil:
				end = &event
			}
			if until(event) {
				break
			}
		}
		return texts, last, end
	}
	texts, place, _ := follow("", func(e client.Event) bool { return e.Log != nil && e.Log.Text == "first\n" })
	if diff := cmp.Diff([]string{"1 of one\n", "0 first\n"}, texts); diff != "" {
		t.Error(diff)
	}
	texts, _, end := follow(place, func(e client.Event) bool {
		if e.Status != nil && e.Status.Status == protocol.Running {
			a.observe(ref, protocol.Completed)
			a.output(ref, 0, 1, "second\n", true) // behind the end of the job
		}
		return false
	})
	if diff := cmp.Diff([]string{"0 second\n"}, texts); diff != "" {
		t.Error(diff)
	}
	if end == nil || end.End.Status != protocol.Completed || !end.End.LogComplete {
		t.Errorf("the end is %+v", end)
	}
}

// TestCodeForAgents: the code arrives as it was sent, at the agent whose
// cluster runs the attempt, and nowhere else.
func TestCodeForAgents(t *testing.T) {
	s := serve(t, t.TempDir())
	kp := s.setUp(t, "c")
	stranger := s.setUp(t, "other")
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "train.py"), []byte("print(1)"), 0o644); err != nil {
		t.Fatal(err)
	}
	folder, err := pack.Open(t.Context(), src, pack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := folder.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if has, err := s.client.HasSnapshot(t.Context(), digest); err != nil || has {
		t.Fatal(has, err)
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	write := func(w io.Writer) error { return folder.Write(t.Context(), w) }
	wantRefusal(t, s.client.PutSnapshot(t.Context(), wrong, write), http.StatusUnprocessableEntity, "did a file change")
	broken := errors.New("the disk broke")
	if err := s.client.PutSnapshot(t.Context(), digest, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if err := s.client.PutSnapshot(t.Context(), digest, write); err != nil {
		t.Fatal(err)
	}
	if has, err := s.client.HasSnapshot(t.Context(), digest); err != nil || !has {
		t.Fatal(has, err)
	}
	job := sampleJob("iris", "c")
	job.Code = digest
	submit(t, s.running, job)

	fetch := func(kp nkeys.KeyPair, audience string) (int, []byte) {
		t.Helper()
		token, err := agentauth.Sign(kp, audience, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return s.request(t, http.MethodGet, "/v1/agent/jobs/iris/attempts/1/code", token, nil)
	}
	if status, body := fetch(kp, "127.0.0.1"); status != http.StatusNotFound {
		t.Errorf("before the claim: %d %s", status, body)
	}
	a := s.leadFront(t, "c", kp)
	wantStarts(t, a.room(1), attempt("iris", 1))
	if status, body := fetch(stranger, "127.0.0.1"); status != http.StatusNotFound {
		t.Errorf("another cluster: %d %s", status, body)
	}
	if status, body := fetch(kp, "relay.elsewhere"); status != http.StatusUnauthorized || !bytes.Contains(body, []byte("relay.elsewhere")) {
		t.Errorf("for another relay: %d %s", status, body)
	}
	status, body := fetch(kp, "127.0.0.1")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	to := t.TempDir()
	if err := snapshot.Unpack(t.Context(), bytes.NewReader(body), to, digest, snapshot.Limits{}); err != nil {
		t.Fatal(err)
	}
	if code, err := os.ReadFile(filepath.Join(to, "train.py")); err != nil || string(code) != "print(1)" {
		t.Errorf("%q, %v", code, err)
	}
	a.observe(attempt("iris", 1), protocol.Completed)
	if status, body := fetch(kp, "127.0.0.1"); status != http.StatusNotFound {
		t.Errorf("after the end: %d %s", status, body)
	}
	// A revoked key opens nothing.
	if _, err := s.client.Disconnect(t.Context(), "c", v1.KeepJobs); err != nil {
		t.Fatal(err)
	}
	if status, body := fetch(kp, "127.0.0.1"); status != http.StatusUnauthorized {
		t.Errorf("after the cluster was deleted: %d %s", status, body)
	}
}

// TestLargeSnapshotInBoundedMemory sends 200 MB; sender, relay and store are
// all in this process.
func TestLargeSnapshotInBoundedMemory(t *testing.T) {
	s := serve(t, t.TempDir())
	const size = 200 << 20
	block := make([]byte, 1<<20)
	sum := sha256.New()
	var heap runtime.MemStats
	var peak atomic.Uint64
	write := func(w io.Writer) error {
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return err
			}
			runtime.ReadMemStats(&heap)
			peak.Store(max(peak.Load(), heap.HeapAlloc))
		}
		return nil
	}
	if err := write(sum); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&heap)
	before := heap.HeapAlloc
	peak.Store(before)
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if err := s.client.PutSnapshot(context.WithoutCancel(t.Context()), digest, write); err != nil {
		t.Fatal(err)
	}
	if grown := int64(peak.Load()) - int64(before); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

package clusters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// ledger is a Records and Queue of one cluster in memory: the answers' sizes
// and turns are what is tested here; the real ones are under test in relay.
type ledger struct {
	queue     []string
	byType    map[string][]string // the queue, where instance types matter
	spec      protocol.Job
	claims    []Claim
	claimErr  error
	damaged   string // the job whose specification is lost
	specErr   error
	read      int // specifications
	trusted   [][]string
	said      bytes.Buffer // the log
	extension *protocol.Extension
}

func (l *ledger) Term(context.Context, string, string, uint64) (uint64, bool, error) {
	return 1, true, nil
}

func (l *ledger) Targets(string) []protocol.Compute {
	return []protocol.Compute{{Name: "c", Namespace: "train"}}
}
func (l *ledger) Extension(string) *protocol.Extension   { return l.extension }
func (l *ledger) Claims(string) []Claim                  { return l.claims }
func (l *ledger) Held(string, protocol.Ref) (bool, bool) { return true, false }
func (l *ledger) Adopt(context.Context, string, protocol.Ref) (bool, error) {
	return true, nil
}

func (l *ledger) Spec(_ context.Context, job string) (protocol.Job, error) {
	l.read++
	if l.specErr != nil {
		return protocol.Job{}, l.specErr
	}
	if job == l.damaged {
		return protocol.Job{}, fmt.Errorf("%w: lost", ErrGone)
	}
	spec := l.spec
	spec.Name = job
	return spec, nil
}

func (l *ledger) Claim(_ context.Context, _, job string) (int, bool, error) {
	if l.claimErr != nil {
		return 0, false, l.claimErr
	}
	if l.byType != nil {
		return 1, true, nil
	}
	for i, name := range l.queue {
		if name == job {
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			l.claims = append(l.claims, Claim{Ref: protocol.Ref{Job: job, Attempt: 1}, Compute: "c"})
			return 1, true, nil
		}
	}
	return 0, false, nil
}

func (l *ledger) Fold(context.Context, string, []protocol.Event) ([]protocol.EventResult, error) {
	return nil, errors.New("not asked for here")
}
func (l *ledger) Trusts(_ context.Context, _ string, keys []string) error {
	l.trusted = append(l.trusted, keys)
	return nil
}
func (l *ledger) Report(_ context.Context, _ string, said *protocol.Sync) ([]protocol.Incident, error) {
	if len(said.Incidents) > 0 {
		return said.Incidents, errors.New("the audit log is away") // which keeps no sync from its answer
	}
	return nil, nil
}
func (l *ledger) Seen(string, *protocol.Sync, int) {}

func (l *ledger) Next(_, kind string, n int) []string {
	if l.byType != nil {
		return l.byType[kind]
	}
	return l.queue[:min(n, len(l.queue))]
}

func (l *ledger) queued(n int) {
	for i := range n {
		l.queue = append(l.queue, fmt.Sprintf("job-%04d", i))
	}
}

// trust is as large as it may be, and larger as JSON.
var trust = protocol.Trust{Keys: make([]protocol.RelayKey, protocol.MaxRelayKeys), CA: strings.Repeat("\n", protocol.MaxCA)}

func service(l *ledger) *Service {
	return New(Options{Records: l, Queue: l, Trust: func() protocol.Trust { return trust }, Log: zerolog.New(&l.said)})
}

// syncer syncs with a service that has folded the cluster's full sync.
func syncer(t *testing.T, l *ledger) func(free int, held ...protocol.Ref) *protocol.SyncReply {
	t.Helper()
	s := service(l)
	key, err := protocol.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	sync := func(m protocol.Sync) *protocol.SyncReply {
		t.Helper()
		m.Nonce, m.Session = "0123456789abcdef", "0123456789abcdef"
		reply, err := s.Sync(t.Context(), "c", &m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.EncodeSigned(reply, key); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	sync(protocol.Sync{Full: true, Last: true})
	return func(free int, held ...protocol.Ref) *protocol.SyncReply {
		t.Helper()
		return sync(protocol.Sync{Room: []protocol.Room{{Compute: "c", Free: free}, {Compute: "c", Free: free}, {Compute: "other", Free: 9}}, Held: held})
	}
}

func TestManyStartsTakeSeveralAnswers(t *testing.T) {
	l := &ledger{spec: protocol.Job{Command: "true"}}
	l.queued(120)
	sync := syncer(t, l)
	var held []protocol.Ref
	for _, want := range []struct {
		starts int
		more   bool
	}{{50, true}, {50, true}, {20, false}, {0, false}} {
		reply := sync(500, held...)
		if len(reply.Starts) != want.starts || reply.More != want.more {
			t.Fatalf("%d starts, more %v; want %+v", len(reply.Starts), reply.More, want)
		}
		for _, start := range reply.Starts {
			held = append(held, start.Ref())
		}
	}
}

// TestLargeJobs: what does not fit into an answer is not claimed.
func TestLargeJobs(t *testing.T) {
	l := &ledger{spec: protocol.Job{Command: strings.Repeat("<", protocol.MaxJobSpec/6-200)}} // six bytes each in JSON
	l.queued(5)
	sync := syncer(t, l)
	reply := sync(10)
	if n := len(reply.Starts); n == 0 || n == 5 || !reply.More || len(l.claims) != n {
		t.Fatalf("%d starts, %d claims, more %v", len(reply.Starts), len(l.claims), reply.More)
	}
	// All are had in the end, also when every answer is lost.
	got := map[string]bool{}
	for range 10 {
		for _, start := range sync(10).Starts {
			got[start.Job.Name] = true
		}
	}
	if len(got) != 5 {
		t.Errorf("%d of 5 jobs were granted", len(got))
	}
}

// TestFullAnswerFits: with as much of everything as there can be, the signed
// answer is a message still; syncer looks.
func TestFullAnswerFits(t *testing.T) {
	l := &ledger{spec: protocol.Job{Command: strings.Repeat("x", 4<<10)}}
	l.queued(50)
	for i := range 1200 {
		claim := Claim{Ref: protocol.Ref{Job: fmt.Sprintf("claimed-%04d", i), Attempt: 1}, Compute: "c"}
		if i%2 == 0 {
			claim.Cancel = protocol.NewReason(protocol.UserCanceled, "canceled by user")
		} else {
			claim.Latest = &protocol.Event{Ref: claim.Ref, State: protocol.Running}
		}
		l.claims = append(l.claims, claim)
	}
	reply := syncer(t, l)(500)
	if len(reply.Starts) == 0 || len(reply.Cancels) == 0 || len(reply.Missing) == 0 || reply.Trust == nil || !reply.More {
		t.Errorf("%d starts, %d cancels, %d missing, trust %v", len(reply.Starts), len(reply.Cancels), len(reply.Missing), reply.Trust != nil)
	}
}

func TestManyCancelsHaveTheirTurn(t *testing.T) {
	l := &ledger{}
	want := map[protocol.Ref]bool{}
	for i := range 1200 {
		ref := protocol.Ref{Job: fmt.Sprintf("job-%04d", i), Attempt: 1}
		want[ref] = true
		l.claims = append(l.claims, Claim{Ref: ref, Compute: "c", Cancel: protocol.NewReason(protocol.UserCanceled, "canceled by user")})
	}
	sync := syncer(t, l)
	for range 40 {
		reply := sync(0)
		for _, cancel := range reply.Cancels {
			delete(want, cancel.Ref)
		}
		if !reply.More {
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("%d cancels never had their turn", len(want))
	}
}

// TestStoreFails: where claims cannot be written, the rest of the answer is
// given.
func TestStoreFails(t *testing.T) {
	l := &ledger{claimErr: errors.New("disk full"), claims: []Claim{{Ref: protocol.Ref{Job: "old", Attempt: 2}, Compute: "c"}}}
	l.queued(3)
	reply := syncer(t, l)(5)
	if len(reply.Starts) != 1 || reply.Starts[0].Ref() != l.claims[0].Ref || reply.More {
		t.Errorf("%+v", reply)
	}
}

// TestStoreFailsAgain: a store that fails is asked once, however long the
// queue, and the agent is not told to come back at once.
func TestStoreFailsAgain(t *testing.T) {
	large := protocol.Job{Command: strings.Repeat("<", protocol.MaxJobSpec/6-200)}
	for name, l := range map[string]*ledger{
		"claim":        {claimErr: errors.New("disk full"), spec: large},
		"read":         {specErr: errors.New("timeout")},
		"claim, small": {claimErr: errors.New("disk full")},
	} {
		t.Run(name, func(t *testing.T) {
			l.queued(1000)
			reply := syncer(t, l)(500)
			if len(reply.Starts) != 0 || reply.More || l.read > 2 { // "c" is listed twice
				t.Errorf("%d starts, more %v, %d specifications read", len(reply.Starts), reply.More, l.read)
			}
		})
	}
}

// TestDamagedJob: one that cannot be granted keeps no other waiting.
func TestDamagedJob(t *testing.T) {
	l := &ledger{damaged: "job-0000"}
	l.queued(3)
	if reply := syncer(t, l)(2); len(reply.Starts) != 2 || reply.More {
		t.Errorf("%+v", reply)
	}
}

// TestRequestOver: nothing is read any more for an answer that comes too late.
func TestRequestOver(t *testing.T) {
	l := &ledger{}
	for i := range 100 {
		l.claims = append(l.claims, Claim{Ref: protocol.Ref{Job: fmt.Sprintf("job-%04d", i), Attempt: 1}, Compute: "c"})
	}
	l.queued(100)
	s := service(l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.specErr = ctx.Err()
	c := new(cluster)
	reply := &protocol.SyncReply{Computes: l.Targets("c")}
	s.grant(ctx, "c", c, []protocol.Room{{Compute: "c", Free: 200}}, l.claims, &budget{protocol.MaxMessage}, reply)
	if l.read != 1 || reply.More {
		t.Errorf("%d specifications read, more %v", l.read, reply.More)
	}
}

// TestRoomByType: each instance type has its own room, and its own jobs; what was
// granted of a type that the agent does not list any more is granted again all
// the same, so that the agent ends it.
func TestRoomByType(t *testing.T) {
	l := &ledger{spec: protocol.Job{Command: "true"}, byType: map[string][]string{"gpu": {"g1", "g2"}, "cpu": {"c1"}},
		claims: []Claim{{Ref: protocol.Ref{Job: "again", Attempt: 1}, Compute: "c", InstanceType: "gpu"}, {Ref: protocol.Ref{Job: "lost", Attempt: 1}, Compute: "c", InstanceType: "gone"}}}
	s := service(l)
	sync := func(m protocol.Sync) *protocol.SyncReply {
		m.Nonce, m.Session = "0123456789abcdef", "0123456789abcdef"
		reply, err := s.Sync(t.Context(), "c", &m)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	sync(protocol.Sync{Full: true, Last: true})
	reply := sync(protocol.Sync{Room: []protocol.Room{{Compute: "c", InstanceType: "gpu", Free: 2}, {Compute: "c", InstanceType: "cpu", Free: 5}}})
	var got []string
	for _, start := range reply.Starts {
		got = append(got, start.Job.Name+" on "+start.InstanceType)
	}
	// "again" takes one of the two places of its type.
	if diff := cmp.Diff([]string{"again on gpu", "lost on gone", "g1 on gpu", "c1 on cpu"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTrust: an agent is told what to trust where that differs from what it
// said, and what it said is noted.
func TestTrust(t *testing.T) {
	l := &ledger{}
	s := service(l)
	for _, tc := range []struct {
		said string
		told bool
	}{{"", true}, {"0123456789abcdef", true}, {trust.Digest(), false}} {
		reply, err := s.Sync(t.Context(), "c", &protocol.Sync{Nonce: "0123456789abcdef", Session: "0123456789abcdef", Keys: []string{"key"}, Trust: tc.said})
		if err != nil {
			t.Fatal(err)
		}
		if (reply.Trust != nil) != tc.told || tc.told && reply.Trust.Digest() != trust.Digest() {
			t.Errorf("to %q: %+v", tc.said, reply.Trust)
		}
	}
	if len(l.trusted) != 3 || l.trusted[0][0] != "key" {
		t.Errorf("noted %v", l.trusted)
	}
}

// TestNudgesAreGathered: the first goes out at once, a burst behind it as one.
func TestNudgesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make(chan string, 100)
		n := NewNudger(func(cluster string) error { sent <- cluster; return nil }, zerolog.Nop())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.Run(ctx) })
		n.Nudge("a")
		synctest.Wait()
		for range 50 {
			n.Nudge("a")
			n.Nudge("b")
		}
		time.Sleep(time.Second)
		cancel()
		running.Wait()
		close(sent)
		var got []string
		for cluster := range sent {
			got = append(got, cluster)
		}
		if diff := cmp.Diff([]string{"a", "a", "b"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestIncidents: what an agent did not believe is in the relay's log; where it
// cannot be put on record, too, and the sync is answered all the same.
func TestIncidents(t *testing.T) {
	l := &ledger{}
	incident := protocol.Incident{Kind: protocol.Forged, Count: 2}
	reply, err := service(l).Sync(t.Context(), "c", &protocol.Sync{Nonce: "0123456789abcdef", Session: "0123456789abcdef", Incidents: []protocol.Incident{incident}})
	said := l.said.String()
	if err != nil || reply == nil || !strings.Contains(said, "security incident") || !strings.Contains(said, "the audit log is away") {
		t.Errorf("%+v, %v, said %s", reply, err, said)
	}
}

// TestExtensionIsTold: every answer has the extension that is wanted, so that
// an agent that is new, or was away, looks for the right one.
func TestExtensionIsTold(t *testing.T) {
	l := &ledger{}
	sync := syncer(t, l)
	if reply := sync(0); reply.Extension != nil {
		t.Errorf("%+v is wanted, and none was", reply.Extension)
	}
	l.extension = &protocol.Extension{Name: "amlarc-compute", Revision: 3, Settings: map[string]string{"enableTraining": "True"}}
	for range 2 {
		if diff := cmp.Diff(l.extension, sync(0).Extension); diff != "" {
			t.Error(diff)
		}
	}
}

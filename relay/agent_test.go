package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// running is a relay that works.
type running struct {
	*Relay
	stop func()
}

// start runs a relay on a folder until the test ends or stop is called.
func start(t *testing.T, opts Options) *running {
	t.Helper()
	opts.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Started():
	case err := <-done:
		cancel()
		t.Fatalf("relay did not start: %v", err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{r, stop}
}

// agent is a scripted agent of one cluster, on a real connection.
type agent struct {
	t       *testing.T
	cluster string
	session string
	conn    *nats.Conn
	trust   protocol.Trust // what it learnt when it joined, and since
	term    uint64
	seq     uint64
	syncs   int
}

// nudgeWord is where scripted agents expect nudges.
const nudgeWord = "word0123456789abcdef"

// newKey makes the key of an agent.
func newKey(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, public
}

// enrol connects a cluster and gives it the key.
func enrol(t *testing.T, r *running, name string, kp nkeys.KeyPair) {
	t.Helper()
	key := r.Keys().Current().Public()
	token, err := protocol.NewJoinToken(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Jobs().Connect(t.Context(), name, token.ID(), key.ID(), time.Now().Add(time.Hour), "admin"); err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	request, err := (&testkit.Joined{Key: kp, Seal: seal}).Request(token)
	if err != nil {
		t.Fatal(err)
	}
	if cluster, signer, err := r.Jobs().Enrol(t.Context(), request); err != nil || cluster != name || signer != key.ID() {
		t.Fatal(cluster, signer, err)
	}
}

// addCluster connects a cluster with one compute of the same name, and returns
// the key of its agent.
func addCluster(t *testing.T, r *running, name string) nkeys.KeyPair {
	t.Helper()
	kp, _ := newKey(t)
	enrol(t, r, name, kp)
	if _, _, err := r.Jobs().PutCompute(t.Context(), name, v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: name, Namespace: "train"}}, "admin"); err != nil {
		t.Fatal(err)
	}
	return kp
}

func dialNATS(r *running, cluster string, kp nkeys.KeyPair) (*nats.Conn, error) {
	public, err := kp.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Connect(r.natsURL(), r.trustNATS(),
		nats.Nkey(public, kp.Sign), nats.CustomInboxPrefix(protocol.InboxPrefix(cluster)), nats.NoReconnect())
}

// lead connects an agent that leads with a session of its own.
func lead(t *testing.T, r *running, cluster, session string, kp nkeys.KeyPair) *agent {
	t.Helper()
	conn, err := dialNATS(r, cluster, kp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &agent{t: t, cluster: cluster, session: "session-of-" + cluster + "-" + session, conn: conn, trust: r.Keys().Trust("")}
}

// send sends a request and returns the answer as it came.
func send[Q protocol.Message](a *agent, verb string, q Q) ([]byte, error) {
	data, err := protocol.Encode(q)
	if err != nil {
		return nil, err
	}
	m, err := a.conn.Request(protocol.UpSubject(a.cluster, verb), data, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// ask sends a request and decodes the answer, which is not signed.
func ask[Q, A protocol.Message](a *agent, verb string, q Q, answer A) error {
	data, err := send(a, verb, q)
	if err != nil {
		return err
	}
	return protocol.Decode(data, answer)
}

func (a *agent) trySync(s protocol.Sync) (*protocol.SyncReply, error) {
	a.syncs++
	s.Nudge = nudgeWord
	s.Nonce, s.Session, s.Term = fmt.Sprintf("nonce-%016d", a.syncs), a.session, a.term
	for _, key := range a.trust.Keys {
		s.Keys = append(s.Keys, key.ID())
	}
	s.Trust = a.trust.Digest()
	data, err := send(a, protocol.VerbSync, &s)
	if err != nil {
		return nil, err
	}
	reply := new(protocol.SyncReply)
	if err := protocol.DecodeSigned(data, reply, a.trust.Keys); err != nil {
		return nil, err
	}
	if reply.Trust != nil {
		a.trust = *reply.Trust
	}
	if reply.Nonce != s.Nonce {
		return nil, fmt.Errorf("answer to nonce %s, want %s", reply.Nonce, s.Nonce)
	}
	a.term = reply.Term
	return reply, nil
}

func (a *agent) sync(s protocol.Sync) *protocol.SyncReply {
	a.t.Helper()
	reply, err := a.trySync(s)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply
}

// join syncs fully, as an agent does that became the leader.
func (a *agent) join(held ...protocol.Ref) {
	a.t.Helper()
	if reply := a.sync(protocol.Sync{Full: true, Last: true, Held: held}); reply.NeedFull {
		a.t.Fatal("a full sync of a new session was not enough")
	}
}

// room syncs with room for n more attempts.
func (a *agent) room(n int, held ...protocol.Ref) *protocol.SyncReply {
	a.t.Helper()
	return a.sync(protocol.Sync{Room: []protocol.Room{{Compute: a.cluster, Free: n}}, Held: held})
}

// event makes the next observation of an attempt.
func (a *agent) event(ref protocol.Ref, state protocol.State) protocol.Event {
	a.seq++
	return protocol.Event{Ref: ref, Version: protocol.Version{Term: a.term, Seq: a.seq}, State: state, Time: time.Now().UTC()}
}

func (a *agent) tell(events ...protocol.Event) []protocol.EventResult {
	a.t.Helper()
	reply := new(protocol.EventReply)
	if err := ask(a, protocol.VerbEvent, &protocol.EventBatch{Events: events}, reply); err != nil {
		a.t.Fatal(err)
	}
	return reply.Results
}

func (a *agent) observe(ref protocol.Ref, states ...protocol.State) {
	a.t.Helper()
	for _, state := range states {
		for _, result := range a.tell(a.event(ref, state)) {
			if result.Outcome != protocol.Folded {
				a.t.Fatalf("%s of %s: %s", state, ref, result.Outcome)
			}
		}
	}
}

func starts(reply *protocol.SyncReply) []protocol.Ref {
	var refs []protocol.Ref
	for _, start := range reply.Starts {
		refs = append(refs, start.Ref())
	}
	return refs
}

func sampleJob(name, compute string) protocol.Job {
	return protocol.Job{Name: name, Command: "python train.py", Image: "python:3.13", Compute: compute, Instances: 1}
}

func submit(t *testing.T, r *running, job protocol.Job) v1.Job {
	t.Helper()
	accepted, created, err := r.Jobs().Submit(t.Context(), job, "user")
	if err != nil {
		t.Fatal(err)
	}
	if !created {
		t.Fatalf("job %s was there before", job.Name)
	}
	return accepted
}

func wantState(t *testing.T, r *running, name string, want protocol.State, reason protocol.ReasonCode) v1.Job {
	t.Helper()
	job, err := r.Jobs().Job(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var got protocol.ReasonCode
	if job.Reason != nil {
		got = job.Reason.Code
	}
	if job.Status != want || got != reason {
		t.Fatalf("job %s is %s (%v), want %s (%s)", name, job.Status, job.Reason, want, reason)
	}
	return job
}

func wantStarts(t *testing.T, reply *protocol.SyncReply, want ...protocol.Ref) {
	t.Helper()
	if got := starts(reply); !slices.Equal(got, want) {
		t.Fatalf("starts %v, want %v", got, want)
	}
}

func attempt(job string, n int) protocol.Ref { return protocol.Ref{Job: job, Attempt: n} }

// refused is the refusal in an error.
func refused(t *testing.T, err error) *protocol.Refusal {
	t.Helper()
	refusal := new(protocol.Refusal)
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return refusal
}

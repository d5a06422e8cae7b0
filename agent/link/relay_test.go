package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// relay is a scripted relay: it decodes what the link sends, keeps it, and
// answers as the script says.
type relay struct {
	mu     sync.Mutex
	term   uint64
	syncs  []*protocol.Sync
	events []protocol.Event
	nudge  func()
	key    *protocol.SigningKey // relayKey where it is nil

	// onSync may alter the n-th answer (from 0), or fail it.
	onSync func(n int, req *protocol.Sync, reply *protocol.SyncReply) error
	// onEvents may alter the answer, or fail it.
	onEvents func(batch *protocol.EventBatch, reply *protocol.EventReply) error
}

// relayKey is what the links of the tests trust.
var relayKey = newRelayKey()

func newRelayKey() *protocol.SigningKey {
	key, err := protocol.NewSigningKey()
	if err != nil {
		panic(err) // there is no randomness
	}
	return key
}

// sign makes the relay sign with the key from now on.
func (r *relay) sign(key *protocol.SigningKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key = key
}

func trust(keys ...*protocol.SigningKey) protocol.Trust {
	var t protocol.Trust
	for _, key := range keys {
		t.Keys = append(t.Keys, key.Public())
	}
	return t
}

// errLost is an answer that gets lost.
var errLost = errors.New("the answer got lost")

// nudgeWord is where the last sync wants nudges.
func (r *relay) nudgeWord() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.syncs[len(r.syncs)-1].Nudge
}

func (r *relay) answer(subject string, data []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, verb, ok := protocol.ParseUpSubject(subject)
	if !ok {
		return nil, fmt.Errorf("subject %q", subject)
	}
	switch verb {
	case protocol.VerbSync:
		req := new(protocol.Sync)
		if err := protocol.Decode(data, req); err != nil {
			return refusal(err)
		}
		if n := len(r.syncs); r.term == 0 || r.syncs[n-1].Session != req.Session {
			r.term = max(r.term, req.Term) + 1
		}
		r.syncs = append(r.syncs, req)
		reply := &protocol.SyncReply{Cluster: "onprem-1", Nonce: req.Nonce, ValidSeconds: 20, Term: r.term}
		if r.onSync != nil {
			if err := r.onSync(len(r.syncs)-1, req, reply); err != nil {
				return refusal(err)
			}
		}
		return protocol.EncodeSigned(reply, cmp.Or(r.key, relayKey))
	case protocol.VerbEvent:
		batch := new(protocol.EventBatch)
		if err := protocol.Decode(data, batch); err != nil {
			return refusal(err)
		}
		reply := new(protocol.EventReply)
		for _, e := range batch.Events {
			reply.Results = append(reply.Results, protocol.EventResult{Ref: e.Ref, Outcome: protocol.Folded})
		}
		var err error
		if r.onEvents != nil {
			err = r.onEvents(batch, reply)
		}
		if err == nil || errors.Is(err, errLost) {
			r.events = append(r.events, batch.Events...)
		}
		if err != nil {
			return refusal(err)
		}
		return protocol.Encode(reply)
	}
	return nil, fmt.Errorf("verb %q", verb)
}

// refusal encodes a *protocol.Refusal; any other error is a lost answer.
func refusal(err error) ([]byte, error) {
	if r, ok := errors.AsType[*protocol.Refusal](err); ok {
		return protocol.Encode(r)
	}
	return nil, err
}

// Request and Subscribe make the relay a Conn without a network between, for
// tests of time.
func (r *relay) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	return r.answer(subject, data)
}

func (r *relay) Subscribe(_ string, received func()) (func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nudge = received
	return func() {}, nil
}

// sent are the syncs so far.
func (r *relay) sent() []*protocol.Sync {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.syncs)
}

// folded is the progress that the told events make, by attempt.
func (r *relay) folded(ref protocol.Ref) protocol.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	var p protocol.Progress
	for _, e := range r.events {
		if e.Ref == ref {
			p, _ = p.Fold(e)
		}
	}
	return p
}

// workloads is a scripted cluster that keeps what it is asked to do.
type workloads struct {
	mu        sync.Mutex
	problem   error
	refusing  error
	held      []protocol.Ref
	finished  []protocol.Ref // held in full syncs only
	free      int
	started   []protocol.Ref
	deadlines []time.Time
	cancelled []protocol.Cancel
	resolved  []protocol.Missing
	at        []protocol.Compute // of what was cancelled or resolved
	folded    []protocol.Ref
	resends   int
	changed   chan struct{} // holds a signal after each call
}

func newWorkloads() *workloads { return &workloads{changed: make(chan struct{}, 1), free: 4} }

func (w *workloads) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	poke(w.changed)
}

func (w *workloads) Synced() (err error)   { w.do(func() { err = w.problem }); return err }
func (w *workloads) Refusing() (err error) { w.do(func() { err = w.refusing }); return err }
func (w *workloads) Held(full bool) (refs []protocol.Ref) {
	w.do(func() {
		refs = slices.Clone(w.held)
		if full {
			refs = append(refs, w.finished...)
		}
	})
	return refs
}
func (w *workloads) Room(computes []protocol.Compute) (room []protocol.Room) {
	w.do(func() {
		for _, c := range computes {
			room = append(room, protocol.Room{Compute: c.Name, Free: w.free})
		}
	})
	return room
}
func (w *workloads) Start(_ context.Context, s protocol.Start, _ protocol.Compute, deadline time.Time) {
	w.do(func() { w.started, w.deadlines = append(w.started, s.Ref()), append(w.deadlines, deadline) })
}
func (w *workloads) Cancel(_ context.Context, c protocol.Cancel, at protocol.Compute) {
	w.do(func() { w.cancelled, w.at = append(w.cancelled, c), append(w.at, at) })
}
func (w *workloads) Resolve(_ context.Context, m protocol.Missing, at protocol.Compute) {
	w.do(func() { w.resolved, w.at = append(w.resolved, m), append(w.at, at) })
}
func (w *workloads) Folded(ref protocol.Ref) { w.do(func() { w.folded = append(w.folded, ref) }) }
func (w *workloads) Resend()                 { w.do(func() { w.resends++ }) }

// until waits for a state of the workloads.
func (w *workloads) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(25 * time.Second) // sooner than the next sync that comes anyway
	for {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.changed:
		case <-limit:
			t.Fatalf("never came: %s", what)
		}
	}
}

func newLink(t *testing.T, conn Conn, w *workloads, change ...func(*Options)) *Link {
	t.Helper()
	o := Options{
		Conn: conn, Cluster: "onprem-1", Workloads: w, Log: zerolog.Nop(), Trust: trust(relayKey),
		Info:      func() protocol.Info { return protocol.Info{AgentVersion: "test"} },
		SaveTrust: func(context.Context, protocol.Trust) error { return nil },
	}
	for _, f := range change {
		f(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// lead runs the link until the test calls the returned function, which
// returns what Lead did.
func lead(t *testing.T, l *Link) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- l.Lead(ctx) }()
	return sync.OnceValue(func() error { cancel(); return <-result })
}

func start(name string) protocol.Start {
	return protocol.Start{Attempt: 1, Job: protocol.Job{
		Name: name, Command: "true", Image: "busybox", Compute: "gpu", Instances: 1,
	}}
}

var gpu = protocol.Compute{Name: "gpu", Namespace: "train"}

func ref(job string) protocol.Ref { return protocol.Ref{Job: job, Attempt: 1} }

func event(job string, state protocol.State) protocol.Event {
	return protocol.Event{Ref: ref(job), State: state, Time: time.Unix(1, 0).UTC()}
}

package apiserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/agent/cluster"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/seal"
	"github.com/trainrelay/trainrelay/protocol"
)

// patience is how long what has to come may take.
const patience = time.Minute

// room is a running cluster.Cluster, and what it observed.
type room struct {
	*cluster.Cluster
	t    *testing.T
	stop func() // waits; may be called again

	mu     sync.Mutex
	events []protocol.Event
	news   chan struct{} // closed and replaced at each event
}

// newRoom runs a cluster.Cluster for the namespaces until the test ends.
func newRoom(t *testing.T, namespaces []string, change ...func(*cluster.Options)) *room {
	t.Helper()
	r := &room{t: t, news: make(chan struct{})}
	o := cluster.Options{
		Client:     agentClient(t),
		Namespaces: namespaces,
		Workload:   workload.Options{LaunchImage: "trainrelay-agent:dev", GatewayURL: "http://gateway:8080"},
		Policy:     policyOf(t, "{}"),
		Mark:       func(ref protocol.Ref, namespace string) string { return namespace + " " + ref.String() },
		Token:      func(ref protocol.Ref) string { return "token of " + ref.String() },
		Open:       func(p seal.Purpose, s *protocol.Sealed) ([]byte, error) { return seal.Open(nil, p, s) },
		Observe:    r.observe,
		Changed:    func() { r.tell() },
		Log:        zerolog.New(zerolog.NewTestWriter(t)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if r.Cluster, err = cluster.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	r.until("synced", func() bool { return r.Synced() == nil })
	return r
}

func (r *room) observe(e protocol.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.tell()
}

func (r *room) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.news)
	r.news = make(chan struct{})
}

// grant starts an attempt under a generous deadline.
func (r *room) grant(start protocol.Start, namespace string) protocol.Ref {
	r.Start(r.t.Context(), start, protocol.Compute{Name: start.Job.Compute, Namespace: namespace}, time.Now().Add(patience))
	return start.Ref()
}

// briefGrant starts an attempt under a deadline that may well pass.
func (r *room) briefGrant(start protocol.Start, namespace string) protocol.Ref {
	r.Start(r.t.Context(), start, protocol.Compute{Name: start.Job.Compute, Namespace: namespace}, time.Now().Add(time.Second))
	return start.Ref()
}

// until waits for something that observations or time bring about.
func (r *room) until(what string, done func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		news := r.news
		r.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-news:
		case <-time.After(20 * time.Millisecond): // not every change is an observation
		case <-deadline:
			r.t.Fatalf("%s: still not; observed: %s", what, r.story())
		}
	}
}

// await waits for an observation of an attempt.
func (r *room) await(ref protocol.Ref, state protocol.State, code protocol.ReasonCode) protocol.Event {
	r.t.Helper()
	var found protocol.Event
	r.until(fmt.Sprintf("%s to be %s for %q", ref, state, code), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.events, func(e protocol.Event) bool {
			return e.Ref == ref && e.State == state && codeOf(e) == code
		})
		if i >= 0 {
			found = r.events[i]
		}
		return i >= 0
	})
	return found
}

// awaitAny waits for the first observation of an attempt.
func (r *room) awaitAny(ref protocol.Ref) (first protocol.Event) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s to be observed", ref), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.events, func(e protocol.Event) bool { return e.Ref == ref })
		if i >= 0 {
			first = r.events[i]
		}
		return i >= 0
	})
	return first
}

// awaitEnd waits for the end of an attempt, whichever it is.
func (r *room) awaitEnd(ref protocol.Ref) protocol.Event {
	r.t.Helper()
	r.until(fmt.Sprintf("%s to end", ref), func() bool { return len(r.ends(ref)) > 0 })
	return r.ends(ref)[0]
}

// observed is all that was observed of an attempt.
func (r *room) observed(ref protocol.Ref) []protocol.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e protocol.Event) bool { return e.Ref != ref })
}

// ends are the ends observed of an attempt.
func (r *room) ends(ref protocol.Ref) []protocol.Event {
	return slices.DeleteFunc(r.observed(ref), func(e protocol.Event) bool { return !e.State.Terminal() })
}

// oneEnd checks that exactly one end was observed of an attempt.
func (r *room) oneEnd(ref protocol.Ref) {
	r.t.Helper()
	if ends := r.ends(ref); len(ends) != 1 {
		r.t.Errorf("%s ended %d times: %s", ref, len(ends), r.story())
	}
}

func (r *room) story() (story []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		line := fmt.Sprintf("%s %s", e.Ref, e.State)
		if e.Reason != nil {
			line += " " + e.Reason.String()
		}
		story = append(story, line)
	}
	return story
}

func (r *room) holds(ref protocol.Ref) bool { return slices.Contains(r.Held(false), ref) }

func codeOf(e protocol.Event) protocol.ReasonCode {
	if e.Reason == nil {
		return ""
	}
	return e.Reason.Code
}

// unstarted makes the start of a job's first attempt.
func unstarted(name string, change ...func(*protocol.Job)) protocol.Start {
	start := protocol.Start{Attempt: 1, Job: protocol.Job{Name: name, Command: "true", Image: "sklearn", Compute: "onprem", Instances: 1}}
	for _, c := range change {
		c(&start.Job)
	}
	return start
}

// through lets a room's requests pass a transport of the test's.
func through(t *testing.T, wrap func(*rest.Config)) func(*cluster.Options) {
	return func(o *cluster.Options) { o.Client = agentClient(t, wrap) }
}

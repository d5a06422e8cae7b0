package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/trainrelay/trainrelay/protocol"
)

// Conn is the connection to the relay, which looks after its own reconnecting;
// *bus.Conn is one, with [Link.Connection] as its OnState.
type Conn interface {
	// Request sends data and returns the answer. It fails soon when there is
	// no connection; trying again is the caller's part.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Subscribe calls received for every message on subject, across
	// reconnects, until stop is called.
	Subscribe(subject string, received func()) (stop func(), err error)
}

// Workloads are the attempts in the cluster, as the Kubernetes API has them.
// No method waits for the API server: Start, Cancel and Resolve take work in,
// to be done under ctx, and report what became of it through [Link.Observe].
type Workloads interface {
	// Synced is nil while what the other methods say is in step with the API
	// server, else it says what is waited for. Its recovery calls [Link.Wake].
	Synced() error
	// Refusing says why no attempt would be started though all is in step;
	// nil where it would.
	Refusing() error
	// Held are the attempts with a Job, or with one being created: the
	// unfinished ones, or all of them. An attempt whose end has been observed
	// need not be among the unfinished.
	Held(full bool) []protocol.Ref
	// Room is how many more attempts each of the computes can take.
	Room(computes []protocol.Compute) []protocol.Room
	// Start creates the attempt's Job on compute, not after deadline, or
	// adopts the one it has. From its return the attempt is held and its room
	// is taken.
	Start(ctx context.Context, start protocol.Start, compute protocol.Compute, deadline time.Time)
	// Cancel ends an attempt, whether or not it has a Job. Its compute has no
	// namespace where the relay does not know it any more.
	Cancel(ctx context.Context, cancel protocol.Cancel, compute protocol.Compute)
	// Resolve looks for the Job of an attempt that the relay believes to live
	// and did not see held; compute is as for Cancel.
	Resolve(ctx context.Context, missing protocol.Missing, compute protocol.Compute)
	// Folded says that the attempt's end is durable at the relay. The end
	// need not be observed again, except for Resend.
	Folded(ref protocol.Ref)
	// Resend observes everything again, ends included.
	Resend()
}

// Options are what a Link is made of. All but Check, Found,
// Wanted, LoadTrust and Registerer are required.
type Options struct {
	Conn      Conn
	Cluster   string // the cluster's name at the relay
	Workloads Workloads
	Info      func() protocol.Info   // what the agent says of itself, asked at every sync
	Check     func() *protocol.Check // the newest self-check; nil before the first
	Found     func() *protocol.Found // what was found in the cluster last; nil before the first
	// Wanted is told after each answer what the relay wants in the cluster. It
	// must not block.
	Wanted func([]protocol.Compute, *protocol.Extension)
	// Trust is what the cluster learnt to trust when it joined, and since.
	Trust protocol.Trust
	// SaveTrust keeps what the relay asks to trust from now on; it counts once
	// that is done.
	SaveTrust func(context.Context, protocol.Trust) error
	// LoadTrust is what was saved last, maybe by another pod that led; nil
	// where no other can.
	LoadTrust  func(context.Context) (protocol.Trust, error)
	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	var errs []error
	if o.Conn == nil {
		errs = append(errs, errors.New("no connection"))
	}
	if err := protocol.CheckLabel("cluster", o.Cluster); err != nil {
		errs = append(errs, err)
	}
	if o.Workloads == nil {
		errs = append(errs, errors.New("no workloads"))
	}
	if o.Info == nil {
		errs = append(errs, errors.New("no info"))
	}
	errs = append(errs, o.Trust.Validate())
	if o.SaveTrust == nil {
		errs = append(errs, errors.New("nothing that saves what is to be trusted"))
	}
	return errors.Join(errs...)
}

// Link is a cluster's link to its relay. Its methods may be called at any
// time, from any goroutine.
type Link struct {
	conn      Conn
	cluster   string
	workloads Workloads
	info      func() protocol.Info
	check     func() *protocol.Check
	found     func() *protocol.Found
	wanted    func([]protocol.Compute, *protocol.Extension)
	log       zerolog.Logger
	metrics   *metrics
	outbox    *outbox
	guard     *guard
	nudge     string // the word at which nudges are expected

	wake      chan struct{} // a sync is due
	retrySync chan struct{} // the connection is back
	retryTell chan struct{}

	mu       sync.Mutex
	status   Status
	waitsFor map[string]string  // what was logged as being waited for, by who waits
	term     uint64             // the highest that any session of this process had
	computes []protocol.Compute // as last answered
	trip     time.Duration      // of the last sync
}

// New checks the options and makes a Link, which does nothing before Lead.
func New(o Options) (*Link, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("link: options: %w", err)
	}
	l := &Link{
		conn:      o.Conn,
		cluster:   o.Cluster,
		workloads: o.Workloads,
		info:      o.Info,
		check:     o.Check,
		found:     o.Found,
		wanted:    o.Wanted,
		log:       o.Log,
		outbox:    newOutbox(),
		guard:     &guard{trust: o.Trust, save: o.SaveTrust, load: o.LoadTrust},
		nudge:     rand.Text(),
		waitsFor:  make(map[string]string),
		wake:      make(chan struct{}, 1),
		retrySync: make(chan struct{}, 1),
		retryTell: make(chan struct{}, 1),
	}
	if l.check == nil {
		l.check = func() *protocol.Check { return nil }
	}
	if l.found == nil {
		l.found = func() *protocol.Found { return nil }
	}
	if l.wanted == nil {
		l.wanted = func([]protocol.Compute, *protocol.Extension) {}
	}
	l.metrics = newMetrics(o.Registerer, l.outbox.len)
	return l, nil
}

// session is one time of leading.
type session struct {
	id     string
	learnt chan struct{} // closed once the relay gave the session a term
	// The sync loop's own:
	full    bool            // the relay wants a full sync
	checked *protocol.Check // the self-check that the relay has
	found   *protocol.Found // what the relay knows was found

	mu   sync.Mutex
	term uint64 // 0 until learnt
	seq  uint64
}

// Lead speaks for the cluster until ctx is done; it then returns nil. It
// returns an error where the relay refuses this leader for good: the process
// should give up leading, and may lead again later. Only one Lead may run at
// a time.
func (l *Link) Lead(ctx context.Context) error {
	stop, err := l.conn.Subscribe(protocol.NudgeSubject(l.cluster, l.nudge), l.Wake)
	if err != nil {
		return fmt.Errorf("link: subscribe to nudges: %w", err)
	}
	defer stop()
	l.setLeading(true)
	defer l.setLeading(false)
	defer l.outbox.reset()

	l.reloadTrust(ctx)
	s := &session{id: rand.Text(), learnt: make(chan struct{})}
	l.log.Info().Str("cluster", l.cluster).Msg("leading")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.syncAlways(ctx, s) })
	g.Go(func() error { return l.tellAlways(ctx, s) })
	return g.Wait()
}

// Observe takes in what became of an attempt; Version is given later. It
// never blocks.
func (l *Link) Observe(e protocol.Event) {
	if err := l.outbox.put(e); err != nil {
		l.log.Error().Err(err).Stringer("attempt", e.Ref).Msg("an observation cannot be told and is dropped")
	}
}

// RoundTrip is how long the last sync took to be answered; 0 before one was.
func (l *Link) RoundTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trip
}

// Wake asks for a sync soon: room or work changed. Calls close to each other
// make one sync.
func (l *Link) Wake() { poke(l.wake) }

// Connection says that the connection to the relay is up, or down and why.
// It makes retries prompt; without it they come with their delay.
func (l *Link) Connection(up bool, cause error) {
	l.mu.Lock()
	l.status.Connected = up
	if cause != nil {
		l.status.LastError = cause.Error()
	}
	l.mu.Unlock()
	if up {
		poke(l.retrySync)
		poke(l.retryTell)
	}
}

// poke leaves a signal in c, which holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

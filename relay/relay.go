// Package relay is the cloud side: it queues training jobs, hands them to the
// agents of clusters that dial in, and keeps what became of them.
//
// It wires the rooms below it: broker (the NATS server, embedded or external), records
// (jobs, computes, clusters, tokens), dispatch (whose turn it is), clusters
// (answers to agents), signing (the keys of these answers), logs (output), export
// (output sent on) and audit (who changed what), and owns their goroutines. It stops in the
// opposite order: first the front, so that no agent connects any more, then
// the rooms, the broker last. When a room fails, all stop and Run returns its
// error: whatever was acknowledged is on disk, and a new start goes on.
package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/audit"
	"github.com/trainrelay/trainrelay/relay/broker"
	"github.com/trainrelay/trainrelay/relay/clusters"
	"github.com/trainrelay/trainrelay/relay/dispatch"
	"github.com/trainrelay/trainrelay/relay/export"
	"github.com/trainrelay/trainrelay/relay/logs"
	"github.com/trainrelay/trainrelay/relay/records"
	"github.com/trainrelay/trainrelay/relay/signing"
)

// Options of a relay. Limits that are 0 have the defaults of their rooms.
type Options struct {
	// Data is the folder of everything that the relay keeps; made if missing.
	Data string
	// Front is the HTTP side: it runs once the rooms work, until its context
	// is done, and must have closed the agents' connections when it returns.
	// nil for none.
	Front func(ctx context.Context, r *Relay) error

	MaxStore      int64         // bytes of the broker's files
	MaxRecords    int64         // bytes of the jobs' records
	MaxQueued     int           // queued jobs
	MaxAttempts   int           // attempts of a job that fails by no fault of its own
	Retention     time.Duration // of ended jobs
	MaxLogs       int64         // bytes of output
	LogsRetention time.Duration // of output
	// Export is where output is sent on; nil for nowhere.
	Export    *export.Target
	MaxAgents int // agents' connections

	// NATS is the NATS server to use instead of an embedded one.
	NATS           *broker.External
	MaxConnections int           // of one cluster's key
	MaxRequests    int           // of one cluster in a second
	AgentLife      time.Duration // of a connection, until its agent proves itself anew

	// NewSigningKey makes a signing key where the one that clusters trust is
	// lost; see signing.Options.Anew.
	NewSigningKey bool
	// Authority is the certificate, PEM, by which agents know the front's; nil
	// or empty for a public one.
	Authority func() string

	MaxAudit       int64         // bytes of the audit log
	AuditRetention time.Duration // of its entries

	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Relay is the cloud side, without its front.
type Relay struct {
	opts    Options
	broker  *broker.Broker
	jobs    *records.Store
	logs    *logs.Store
	keys    *signing.Keys
	audit   *audit.Log
	started chan struct{}
}

// New checks the options and makes a relay; it works while Run runs.
func New(opts Options) (*Relay, error) {
	if opts.Data == "" {
		return nil, errors.New("relay: no folder given for its data")
	}
	b, err := broker.New(broker.Options{
		Dir:            filepath.Join(opts.Data, "nats"),
		External:       opts.NATS,
		MaxStore:       opts.MaxStore,
		MaxAgents:      opts.MaxAgents,
		MaxConnections: opts.MaxConnections,
		MaxRequests:    opts.MaxRequests,
		AgentLife:      opts.AgentLife,
		Log:            opts.Log.With().Str("room", "broker").Logger(),
		Registerer:     opts.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return &Relay{opts: opts, broker: b, started: make(chan struct{})}, nil
}

// Started is closed once the rooms work; their accessors are valid from then.
func (r *Relay) Started() <-chan struct{} { return r.started }

// Jobs keeps jobs, computes and clusters.
func (r *Relay) Jobs() *records.Store { return r.jobs }

// Logs keeps output.
func (r *Relay) Logs() *logs.Store { return r.logs }

// Keys are the relay's signing keys.
func (r *Relay) Keys() *signing.Keys { return r.keys }

// Audit keeps who changed what.
func (r *Relay) Audit() *audit.Log { return r.audit }

// Broker carries the agents' requests.
func (r *Relay) Broker() *broker.Broker { return r.broker }

// Run runs the relay until ctx is done, and returns when all of it has
// stopped. It runs once.
func (r *Relay) Run(ctx context.Context) (err error) {
	if err := r.broker.Start(ctx); err != nil {
		return err
	}
	defer r.broker.Stop()

	// The rooms outlive ctx: the front stops first.
	roomsCtx, stopRooms := context.WithCancel(context.WithoutCancel(ctx))
	rooms, roomsCtx := errgroup.WithContext(roomsCtx)
	defer func() {
		stopRooms()
		err = errors.Join(err, rooms.Wait())
	}()
	front, stopFront := context.WithCancel(roomsCtx)
	defer stopFront()
	defer context.AfterFunc(ctx, stopFront)()

	link, err := r.open(ctx, rooms, roomsCtx)
	if err != nil {
		return err
	}
	rooms.Go(func() error { return r.jobs.Run(roomsCtx) })
	select {
	case <-r.jobs.Loaded():
	case <-front.Done():
		return nil
	}
	// The records know whether there have been keys before.
	r.keys, err = signing.Open(signing.Options{
		Dir: filepath.Join(r.opts.Data, "signing"), Trusting: slices.Sorted(maps.Keys(r.jobs.Trusting())), Anew: r.opts.NewSigningKey,
	})
	if err != nil {
		return err
	}
	link.keys = r.keys
	known, err := r.jobs.Clusters(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range known {
		names = append(names, c.Name)
	}
	if err := r.broker.Listen(names...); err != nil {
		return err
	}
	rooms.Go(func() error { return r.broker.Serve(roomsCtx, link.handle) })
	if err := r.broker.Admit(r.jobs.ClusterOf); err != nil {
		return err
	}
	close(r.started)
	if r.opts.Front != nil {
		return r.opts.Front(front, r)
	}
	<-front.Done()
	return nil
}

func (r *Relay) authority() string {
	if r.opts.Authority == nil {
		return ""
	}
	return r.opts.Authority()
}

// incident puts an answer that an agent did not believe into the audit log.
func (r *Relay) incident(ctx context.Context, cluster string, i protocol.Incident) error {
	return r.audit.Append(ctx, audit.Entry{
		Actor: "agent:" + cluster, Action: "security.incident", Target: cluster,
		Detail: fmt.Sprintf("%s, %d times since %s: %s", i.Kind, i.Count, i.Time.UTC().Format(time.RFC3339), i.Message),
	})
}

// lastWords is how long the last answer to an agent has to reach it before its
// connection is cut.
const lastWords = 200 * time.Millisecond

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// open makes the rooms.
func (r *Relay) open(ctx context.Context, rooms *errgroup.Group, roomsCtx context.Context) (uplink, error) {
	var service *clusters.Service
	nudger := clusters.NewNudger(func(cluster string) error {
		if word := service.NudgeWord(cluster); word != "" {
			return r.broker.Nudge(cluster, word)
		}
		return nil // its first sync is still to come
	}, r.opts.Log.With().Str("room", "clusters").Logger())
	order := new(dispatch.Queue)
	var err error
	r.jobs, err = records.Open(ctx, records.Options{
		JetStream: r.broker.JetStream(),
		Queue:     queue{order},
		Nudge:     nudger.Nudge,
		Revoked:   r.broker.Disconnect,
		Left:      func(cluster string) { service.Forget(cluster) },
		Told: func(ctx context.Context, cluster string, attempts []protocol.Ref) bool {
			told := service.Told(ctx, cluster, attempts)
			if told {
				wait(ctx, lastWords)
			}
			return told
		},
		Incident:    r.incident,
		Signs:       func(keyID string) bool { return r.keys.Has(keyID) },
		MaxBytes:    r.opts.MaxRecords,
		MaxQueued:   r.opts.MaxQueued,
		MaxAttempts: r.opts.MaxAttempts,
		Retention:   r.opts.Retention,
		Log:         r.opts.Log.With().Str("room", "records").Logger(),
		Registerer:  r.opts.Registerer,
	})
	if err != nil {
		return uplink{}, err
	}
	r.audit, err = audit.Open(ctx, audit.Options{
		JetStream: r.broker.JetStream(), MaxBytes: r.opts.MaxAudit, MaxAge: r.opts.AuditRetention,
		Log: r.opts.Log.With().Str("room", "audit").Logger(), Registerer: r.opts.Registerer,
	})
	if err != nil {
		return uplink{}, err
	}
	r.logs, err = logs.Open(ctx, logs.Options{
		Analyzed:   r.jobs.Analyzed,
		JetStream:  r.broker.JetStream(),
		Claimed:    r.jobs.Claimed,
		MaxBytes:   r.opts.MaxLogs,
		MaxAge:     r.opts.LogsRetention,
		Log:        r.opts.Log.With().Str("room", "logs").Logger(),
		Registerer: r.opts.Registerer,
	})
	if err != nil {
		return uplink{}, err
	}
	exporter, err := r.exporter(ctx)
	if err != nil {
		return uplink{}, err
	}
	promauto.With(r.opts.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trainrelay_connected_clusters", Help: "Clusters that synced lately.",
	}, func() float64 { return float64(r.jobs.Connected()) })
	service = clusters.New(clusters.Options{
		Records:    clusterRecords{r.jobs},
		Queue:      order,
		Trust:      func() protocol.Trust { return r.keys.Trust(r.authority()) },
		Log:        r.opts.Log.With().Str("room", "clusters").Logger(),
		Registerer: r.opts.Registerer,
	})
	rooms.Go(func() error { nudger.Run(roomsCtx); return nil })
	if exporter != nil {
		rooms.Go(func() error { exporter.Run(roomsCtx); return nil })
	}
	rooms.Go(func() error { r.audit.Run(roomsCtx); return nil })
	// What agents bring about is logged so many times a minute, whatever they send.
	return uplink{clusters: service, logs: r.logs, log: r.opts.Log.Sample(&zerolog.BurstSampler{Burst: 60, Period: time.Minute})}, nil
}

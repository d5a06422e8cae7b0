// Package records keeps what the relay must not forget: jobs, computes,
// clusters and users' tokens, in JetStream key-value buckets. It is the only place that changes
// them, always by compare-and-set, so that several relays may do so at once.
//
// A job's record is an immutable specification and a small status made of
// facts ([Status]), from which the job's state is derived. The queue is no
// thing of its own: it is the set of records that are queued, ordered in
// memory and rebuilt from the bucket at start.
//
// It guarantees that what it reports as done is on disk, that an attempt is
// claimed once, and that an end never changes. When the store cannot write,
// methods return its error and nothing is accepted; the caller tries again,
// which every method bears. A job's specification without status, left by a
// crash, was never accepted; it is completed by a later submit or swept away.
package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

var (
	// ErrNotFound: there is no such job, compute, cluster or token.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the name is taken by something else.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the input cannot be used; the error lists every problem.
	ErrInvalid = errors.New("invalid")
	// ErrFull: a limit is reached and nothing was accepted.
	ErrFull = errors.New("full")
)

// Queue is told which jobs wait for a claim.
type Queue interface {
	Put(Queued)
	Remove(Queued)
}

// Queued is a job that waits for a claim.
type Queued struct {
	Name         string
	Compute      string
	InstanceType string
	Priority     int
	Created      time.Time
}

// Options of a store.
type Options struct {
	JetStream jetstream.JetStream
	Queue     Queue
	// Nudge is told the cluster for which there is something new. It must not
	// block.
	Nudge func(cluster string)
	// Revoked is told a key that no cluster has any more: whoever is connected
	// with it is to be cut off. It must not block for long.
	Revoked func(publicKey string)
	// Left is told the cluster that was disconnected. It must not block.
	Left func(cluster string)
	// Signs reports whether the relay has the signing key of that ID. nil: it has
	// all.
	Signs func(keyID string) bool
	// Incident puts into the audit log that the cluster's agent did not believe
	// an answer. nil: it is put nowhere.
	Incident func(ctx context.Context, cluster string, i protocol.Incident) error
	// Told waits until the cluster's agent was answered the cancels of these
	// attempts, or ctx is done, and reports whether it was. nil: nobody tells.
	Told func(ctx context.Context, cluster string, attempts []protocol.Ref) bool

	MaxBytes    int64         // of the jobs' bucket; 0 for 4 GiB
	MaxQueued   int           // queued jobs; 0 for 500,000
	MaxAttempts int           // of a job that fails by no fault of its own; 0 for 3
	Retention   time.Duration // of ended jobs; 0 for 30 days

	Log        zerolog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil for time.Now
}

// Store holds the records.
type Store struct {
	opts    Options
	index   *index
	setup   *setup
	metrics *metrics
	jobs    jetstream.KeyValue
	plan    jetstream.KeyValue // computes, clusters, terms, tokens
	started time.Time
	loaded  chan struct{}
}

// Buckets of the store.
const (
	bucketJobs  = "JOBS"
	bucketSetup = "SETUP"
	// markerTTL is how long the mark of a deleted key stays, for the relays
	// that watch.
	markerTTL = time.Hour
)

// Open makes the buckets, if they are missing. The store works while Run runs.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	jobs, err := opts.JetStream.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucketJobs, History: 1, Storage: jetstream.FileStorage,
		MaxBytes: opts.MaxBytes, LimitMarkerTTL: markerTTL,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", bucketJobs, err)
	}
	plan, err := opts.JetStream.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucketSetup, History: 1, Storage: jetstream.FileStorage,
		MaxBytes: 256 << 20, LimitMarkerTTL: markerTTL,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", bucketSetup, err)
	}
	s := &Store{
		opts:    opts,
		index:   newIndex(opts.Queue),
		setup:   newSetup(),
		jobs:    jobs,
		plan:    plan,
		started: opts.Now(),
		loaded:  make(chan struct{}),
	}
	s.metrics = newMetrics(opts.Registerer, s.index)
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 30
	}
	if o.MaxQueued == 0 {
		o.MaxQueued = 500_000
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 3
	}
	if o.Retention == 0 {
		o.Retention = 30 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Nudge == nil {
		o.Nudge = func(string) {}
	}
	if o.Revoked == nil {
		o.Revoked = func(string) {}
	}
	if o.Left == nil {
		o.Left = func(string) {}
	}
	if o.Signs == nil {
		o.Signs = func(string) bool { return true }
	}
	if o.Incident == nil {
		o.Incident = func(context.Context, string, protocol.Incident) error { return nil }
	}
	if o.Told == nil {
		o.Told = func(context.Context, string, []protocol.Ref) bool { return false }
	}
	return o
}

// Loaded is closed once the records are read.
func (s *Store) Loaded() <-chan struct{} { return s.loaded }

// ready waits until the records are read.
func (s *Store) ready(ctx context.Context) error {
	select {
	case <-s.loaded:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the records are still being read: %w", context.Cause(ctx))
	}
}

func (s *Store) now() time.Time { return s.opts.Now().UTC().Truncate(time.Microsecond) }

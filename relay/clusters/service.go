// Package clusters answers the agents: what a cluster is to start and to
// cancel, given what it says it holds and has room for, and what became of its
// attempts.
//
// It guarantees that nothing is granted to a cluster before the relay, since
// it started, has seen everything that the cluster holds; that a claim is on
// disk before its start is answered; and that only the newest session of a
// cluster's agent is granted anything. A lost answer is healed by the next
// sync: what was claimed and is neither held nor ever reported is granted
// again, as the same attempt. When records cannot be read or written, what
// could be claimed until then is answered and the rest waits for the next sync.
package clusters

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// Records keeps what the answers are made of.
type Records interface {
	// Term is the term of a session; 0 for a superseded one. fresh sessions
	// were not heard of before.
	Term(ctx context.Context, cluster, session string, seen uint64) (term uint64, fresh bool, err error)
	Targets(cluster string) []protocol.Compute
	// Extension is how the cluster's extension should be; nil for none.
	Extension(cluster string) *protocol.Extension
	// Claims are the unfinished attempts of the cluster, by job.
	Claims(cluster string) []Claim
	// Held judges an unfinished attempt that the cluster holds: one that the
	// relay knows nothing of, or one that has ended on record.
	Held(cluster string, held protocol.Ref) (known, leftover bool)
	Adopt(ctx context.Context, cluster string, held protocol.Ref) (known bool, err error)
	// Spec's error is an ErrGone where the fault is the job's alone.
	Spec(ctx context.Context, job string) (protocol.Job, error)
	Claim(ctx context.Context, cluster, job string) (attempt int, ok bool, err error)
	Fold(ctx context.Context, cluster string, events []protocol.Event) ([]protocol.EventResult, error)
	// Trusts notes which of the relay's signing keys the agent trusts.
	Trusts(ctx context.Context, cluster string, keys []string) error
	// Report takes in incidents and checks, puts those incidents that are news
	// into the audit log, and returns them.
	Report(ctx context.Context, cluster string, said *protocol.Sync) ([]protocol.Incident, error)
	Seen(cluster string, said *protocol.Sync, unknownJobs int)
}

// ErrGone: the job is not to be had (any more), which says nothing of others.
var ErrGone = errors.New("the job is not to be had")

// Claim is an attempt that a cluster claimed and has not ended.
type Claim struct {
	protocol.Ref
	Compute      string
	InstanceType string
	Latest       *protocol.Event  // nil when nothing was said of it yet
	Cancel       *protocol.Reason // nil when it may go on
}

// Queue knows whose turn is next.
type Queue interface {
	Next(compute, instanceType string, n int) []string
}

// Options of a service.
type Options struct {
	Records Records
	Queue   Queue
	// Trust is what agents are to trust.
	Trust      func() protocol.Trust
	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Service answers agents. It is safe for concurrent use.
type Service struct {
	opts    Options
	metrics *metrics

	mu       sync.Mutex
	clusters map[string]*cluster
	nudges   map[string]string // the words at which agents expect nudges, by cluster
	waits    map[string]map[*wait]struct{}
}

// cluster is what the service remembers of a cluster between its syncs, all of
// it since the relay started.
type cluster struct {
	sync.Mutex // one sync at a time
	session    string
	// asked: the session's full sync is one from its first page on.
	asked bool
	// folded: a full sync was folded.
	folded  bool
	unknown int // attempts in the pages so far that no record knows
	// Where the lists of the last answer ended that were cut.
	starts, cancels, missing protocol.Ref
}

// New makes a service.
func New(opts Options) *Service {
	return &Service{opts: opts, metrics: newMetrics(opts.Registerer), clusters: map[string]*cluster{}, nudges: map[string]string{}, waits: map[string]map[*wait]struct{}{}}
}

func (s *Service) cluster(name string) *cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clusters[name] == nil {
		s.clusters[name] = new(cluster)
	}
	return s.clusters[name]
}

// NudgeWord is the word at which the cluster's agent expects nudges; empty
// before its first sync.
func (s *Service) NudgeWord(cluster string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nudges[cluster]
}

func (s *Service) expectNudges(cluster, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nudges[cluster] = word
}

// Events folds what an agent observed and answers once that is on disk.
func (s *Service) Events(ctx context.Context, name string, batch *protocol.EventBatch) (*protocol.EventReply, error) {
	results, err := s.opts.Records.Fold(ctx, name, batch.Events)
	if err != nil {
		return nil, fmt.Errorf("events of cluster %s: %w", name, err)
	}
	return &protocol.EventReply{Results: results}, nil
}

// Sync answers one sync of a cluster's agent.
func (s *Service) Sync(ctx context.Context, name string, sync *protocol.Sync) (*protocol.SyncReply, error) {
	c := s.cluster(name)
	c.Lock()
	defer c.Unlock()
	term, fresh, err := s.opts.Records.Term(ctx, name, sync.Session, sync.Term)
	if err != nil {
		return nil, fmt.Errorf("sync of cluster %s: %w", name, err)
	}
	if term == 0 {
		s.metrics.syncs.WithLabelValues("superseded").Inc()
		return nil, &protocol.Refusal{Message: fmt.Sprintf("another agent leads cluster %s since; this session is over", name)}
	}
	if c.session != sync.Session {
		s.opts.Log.Info().Str("cluster", name).Str("leader", sync.Info.Leader).Uint64("term", term).Msg("an agent leads the cluster")
		// Pages of a session that began before this relay may have been
		// answered by another one, with records that are lost since.
		c.session, c.asked, c.unknown = sync.Session, fresh, 0
	}
	s.expectNudges(name, sync.Nudge)
	reply := &protocol.SyncReply{
		Cluster: name, Nonce: sync.Nonce, ValidSeconds: int(protocol.StartDeadline.Seconds()),
		Term: term, Computes: s.opts.Records.Targets(name), Extension: s.opts.Records.Extension(name),
	}
	s.report(ctx, name, sync)
	s.trust(ctx, name, sync, reply)
	switch {
	case sync.Full:
		err = s.fold(ctx, name, c, sync, reply)
	case !c.folded:
		c.asked, c.unknown, reply.NeedFull = true, 0, true
		s.opts.Records.Seen(name, sync, 0)
	default:
		s.decide(ctx, name, c, sync, reply)
	}
	if err != nil {
		return nil, fmt.Errorf("sync of cluster %s: %w", name, err)
	}
	s.metrics.answered(reply)
	s.tell(name, reply.Cancels)
	return reply, nil
}

// report takes in what the agent reports besides its work. It fails no sync:
// what matters most then is in the log.
func (s *Service) report(ctx context.Context, name string, sync *protocol.Sync) {
	news, err := s.opts.Records.Report(ctx, name, sync)
	if err != nil {
		s.opts.Log.Error().Err(err).Str("cluster", name).Msg("cannot note what the agent reports; trying again with its next sync")
	}
	for _, i := range news {
		s.opts.Log.Error().Str("cluster", name).Str("kind", string(i.Kind)).Int("count", i.Count).Str("cause", i.Message).
			Msg("security incident: the cluster's agent did not believe answers that came as this relay's")
	}
}

// trust notes what the agent trusts, and tells it where that is to change.
func (s *Service) trust(ctx context.Context, name string, sync *protocol.Sync, reply *protocol.SyncReply) {
	if err := s.opts.Records.Trusts(ctx, name, sync.Keys); err != nil {
		// The next sync brings it again; until then no key is retired.
		s.opts.Log.Error().Err(err).Str("cluster", name).Msg("cannot note which signing keys the cluster trusts")
	}
	if now := s.opts.Trust(); now.Digest() != sync.Trust {
		reply.Trust = &now
	}
}

// fold takes in one page of a full sync.
func (s *Service) fold(ctx context.Context, name string, c *cluster, sync *protocol.Sync, reply *protocol.SyncReply) error {
	for _, held := range sync.Held {
		known, err := s.opts.Records.Adopt(ctx, name, held)
		if err != nil {
			return err
		}
		if !known {
			c.unknown++
		}
	}
	s.opts.Records.Seen(name, sync, c.unknown)
	if !sync.Last {
		return nil
	}
	c.unknown = 0
	switch {
	case c.folded:
	case c.asked:
		c.folded = true
		s.opts.Log.Info().Str("cluster", name).Msg("the cluster's jobs are known")
	default:
		c.asked, reply.NeedFull = true, true
		return nil
	}
	// Grants follow on a sync that lists the unfinished only.
	reply.More = true
	return nil
}

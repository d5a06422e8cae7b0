package records

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// setup is the picture in memory of what changes rarely: clusters, computes,
// tokens, and what was last heard of the clusters.
type setup struct {
	clusters table[cluster]
	computes table[compute]
	terms    table[term]
	tokens   table[token]
	trusts   table[trust]
	reports  table[report]
	// extensions are by cluster.
	extensions table[extensionRecord]
	// environments are by name and version; see environmentKey.
	environments table[environmentRecord]

	mu   sync.RWMutex
	seen map[string]presence
	// reported is what agents reported since the relay started.
	reported map[string]*reporting
}

// cluster is the record of a cluster. No secret is in it.
type cluster struct {
	PublicKey string    `json:"public_key,omitempty"` // empty before an agent joined
	SealKey   string    `json:"seal_key,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	// Join is the newest join token.
	Join *join `json:"join,omitempty"`
	// Leaving is a disconnection that has begun and is to be finished, also by
	// the next start of the relay.
	Leaving *leaving `json:"leaving,omitempty"`
}

// join is what is kept of a join token.
type join struct {
	ID        string    `json:"id"`  // its public half
	Key       string    `json:"key"` // the ID of the signing key that it names
	Expires   time.Time `json:"expires"`
	CreatedBy string    `json:"created_by,omitempty"`
	UsedBy    string    `json:"used_by,omitempty"` // the public key that joined with it
}

// leaving is a disconnection that cancels the cluster's jobs, or a detachment of
// a compute.
type leaving struct {
	By string    `json:"by,omitempty"`
	At time.Time `json:"at"`
}

// compute is the record of a compute.
type compute struct {
	v1.ComputeSettings
	ResourceID string    `json:"resource_id,omitempty"`
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Modified   time.Time `json:"modified,omitzero"`
	// Leaving: it is detached, and goes once its jobs have ended.
	Leaving *leaving `json:"leaving,omitempty"`
}

// term is which session leads a cluster. It outlives the cluster's record
// while attempts live that were observed in it, so that a cluster that is
// connected again goes on with higher terms.
type term struct {
	Term    uint64 `json:"term"`
	Session string `json:"session"`
	// Past are the sessions before, newest first.
	Past []string `json:"past,omitempty"`
}

// presence is what was last heard of a cluster.
type presence struct {
	at       time.Time
	info     protocol.Info
	problems []string
	unknown  int
}

func newSetup() *setup { return &setup{seen: map[string]presence{}, reported: map[string]*reporting{}} }

// Prefixes of keys in the setup's bucket.
const (
	clusterPrefix = "cluster."
	computePrefix = "compute."
	termPrefix    = "term."
	trustPrefix   = "trust."
	reportPrefix  = "report."
)

// applySetup takes in one entry of the setup's bucket.
func (s *Store) applySetup(e jetstream.KeyValueEntry) error {
	kind, name, _ := strings.Cut(e.Key(), ".")
	switch kind + "." {
	case clusterPrefix:
		return s.applyClusterEntry(name, e)
	case computePrefix:
		return s.setup.computes.applyEntry(name, e)
	case termPrefix:
		return s.setup.terms.applyEntry(name, e)
	case tokenPrefix:
		return s.setup.tokens.applyEntry(name, e)
	case trustPrefix:
		return s.setup.trusts.applyEntry(name, e)
	case reportPrefix:
		return s.setup.reports.applyEntry(name, e)
	case extensionPrefix:
		return s.setup.extensions.applyEntry(name, e)
	case environmentPrefix:
		return s.setup.environments.applyEntry(name, e)
	}
	return fmt.Errorf("%q is not a key of a cluster, compute or token", e.Key())
}

// drop forgets what was gone before then.
func (s *setup) drop(then time.Time) {
	s.clusters.drop(then)
	s.computes.drop(then)
	s.terms.drop(then)
	s.tokens.drop(then)
	s.trusts.drop(then)
	s.reports.drop(then)
	s.extensions.drop(then)
	s.environments.drop(then)
}

// presence is what was last heard of the cluster.
func (s *setup) presence(cluster string) presence {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seen[cluster]
}

// connected reports whether the cluster synced lately.
func (s *setup) connected(cluster string, now time.Time) bool {
	at := s.presence(cluster).at
	return !at.IsZero() && now.Sub(at) <= protocol.PresenceTimeout
}

// works reports whether the cluster may be given work: it is there and is not
// being disconnected.
func (s *setup) works(cluster string) bool {
	c, ok := s.clusters.get(cluster)
	return ok && c.Leaving == nil
}

// table maps names to values as of a revision; the newest revision wins.
type table[T any] struct {
	mu   sync.RWMutex
	rows map[string]row[T]
}

type row[T any] struct {
	value    T
	revision uint64
	gone     bool
	since    time.Time // it is gone
}

func decodeRow[T any](e jetstream.KeyValueEntry) (row[T], error) {
	r := row[T]{revision: e.Revision(), gone: e.Operation() != jetstream.KeyValuePut}
	if !r.gone {
		if err := json.Unmarshal(e.Value(), &r.value); err != nil {
			return r, fmt.Errorf("%s: %w", e.Key(), err)
		}
	}
	return r, nil
}

func (t *table[T]) applyEntry(name string, e jetstream.KeyValueEntry) error {
	r, err := decodeRow[T](e)
	if err == nil {
		t.apply(name, r)
	}
	return err
}

// apply takes in a row and returns the value before it, unless a newer one is
// in. That one is gone is kept, until drop, so that no older row comes back.
func (t *table[T]) apply(name string, r row[T]) (before T, newer bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[string]row[T]{}
	}
	old := t.rows[name]
	if old.revision >= r.revision {
		return old.value, false
	}
	if r.gone {
		r.since = time.Now()
	}
	t.rows[name] = r
	return old.value, true
}

// drop forgets what was gone before then.
func (t *table[T]) drop(then time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.rows, func(_ string, r row[T]) bool { return r.gone && r.since.Before(then) })
}

func (t *table[T]) get(name string) (T, bool) {
	value, revision := t.at(name)
	return value, revision > 0
}

// at is the value and its revision, 0 where there is none.
func (t *table[T]) at(name string) (T, uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r, ok := t.rows[name]
	if !ok || r.gone {
		var none T
		return none, 0
	}
	return r.value, r.revision
}

// find is the name of a value that fits.
func (t *table[T]) find(fits func(T) bool) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, r := range t.rows {
		if !r.gone && fits(r.value) {
			return name, true
		}
	}
	return "", false
}

// each calls visit with every value.
func (t *table[T]) each(visit func(name string, value T)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, r := range t.rows {
		if !r.gone {
			visit(name, r.value)
		}
	}
}

// names are sorted.
func (t *table[T]) names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.rows))
	for name, r := range t.rows {
		if !r.gone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Package signing keeps the keys that the relay signs its answers with, and
// decides which of them an agent is answered with.
//
// The keys lie in one file of a folder of the relay's data, readable by the
// relay alone, and nowhere else: who breaks into the broker or copies its files
// cannot order anything. The file is replaced as a whole and flushed to disk
// before a change counts.
//
// Keys overlap: a new one is announced under one that agents trust already,
// each agent is answered with the newest key that it said it trusts, and an old
// one is retired when no cluster depends on it any more. A key is made by
// itself once, before any cluster trusts one; afterwards a file that is lost or
// damaged is an error that says how to go on, since agents would not believe a
// key that they never heard of.
package signing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Options of the keys.
type Options struct {
	// Dir is the folder of the keys; made if missing.
	Dir string
	// Trusting are the clusters that trust a key of this relay already. Where
	// there is one, no first key is made.
	Trusting []string
	// Anew makes a key all the same: the old ones are lost, and each of those
	// clusters has to join again. Keys that are there are kept.
	Anew bool
	// Now tells the time; nil for time.Now.
	Now func() time.Time
}

// Keys are the relay's signing keys. They are safe for concurrent use.
type Keys struct {
	opts Options

	mu   sync.RWMutex
	keys []key // the newest last; never empty, never changed in place
}

type key struct {
	*protocol.SigningKey
	created time.Time
	by      string
}

func (k key) id() string { return k.Public().ID() }

// Key is what may be told of a key.
type Key struct {
	ID      string
	Created time.Time
	By      string // who made it; empty for the first one
	Current bool   // it is the newest
}

var (
	// ErrUnknown: there is no key of that ID.
	ErrUnknown = errors.New("there is no such signing key")
	// ErrNeeded: the change would cut clusters off, or leave no room to go on.
	ErrNeeded = errors.New("not possible now")
)

// Open reads the keys, and makes one at the relay's first start.
func Open(opts Options) (*Keys, error) {
	if opts.Dir == "" {
		return nil, errors.New("signing keys: no folder given")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	keys, err := load(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	k := &Keys{opts: opts, keys: keys}
	switch {
	case len(keys) > 0:
		return k, nil
	case len(opts.Trusting) > 0 && !opts.Anew:
		return nil, fmt.Errorf("signing keys: %s is missing, and the keys in it are trusted by %s: restore it from a backup; where it is lost, start once with --new-signing-key and join each of these clusters again with `trainrelay cluster connect`",
			file(opts.Dir), protocol.Cut(strings.Join(opts.Trusting, ", "), 500))
	}
	_, err = k.Rotate("")
	return k, err
}

// Current is the newest key.
func (k *Keys) Current() *protocol.SigningKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[len(k.keys)-1].SigningKey
}

// For is the newest of the keys that an agent trusts, given by their IDs; the
// current one where it trusts none of them, which it then reports.
func (k *Keys) For(ids []string) *protocol.SigningKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, key := range slices.Backward(k.keys) {
		if slices.Contains(ids, key.id()) {
			return key.SigningKey
		}
	}
	return k.keys[len(k.keys)-1].SigningKey
}

// Has reports whether there is a key of that ID.
func (k *Keys) Has(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.ContainsFunc(k.keys, func(key key) bool { return key.id() == id })
}

// Trust is what agents are to trust: all keys, and the authority of the
// relay's certificate, PEM; empty for a public one.
func (k *Keys) Trust(ca string) protocol.Trust {
	k.mu.RLock()
	defer k.mu.RUnlock()
	trust := protocol.Trust{Keys: make([]protocol.RelayKey, len(k.keys)), CA: ca}
	for i, key := range k.keys {
		trust.Keys[i] = key.Public()
	}
	return trust
}

// List tells of all keys, the newest last.
func (k *Keys) List() []Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	list := make([]Key, len(k.keys))
	for i := range k.keys {
		list[i] = k.describe(i)
	}
	return list
}

func (k *Keys) describe(i int) Key {
	key := k.keys[i]
	return Key{ID: key.id(), Created: key.created, By: key.by, Current: i == len(k.keys)-1}
}

// Rotate makes a key, which is current from then on. It is on disk when Rotate
// returns.
func (k *Keys) Rotate(by string) (Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) >= protocol.MaxRelayKeys {
		return Key{}, fmt.Errorf("signing keys: %w: there are %d keys, and agents take no more: retire the oldest, %s, first", ErrNeeded, len(k.keys), k.keys[0].id())
	}
	fresh, err := protocol.NewSigningKey()
	if err != nil {
		return Key{}, err
	}
	keys := append(slices.Clone(k.keys), key{SigningKey: fresh, created: k.opts.Now().UTC(), by: by})
	if err := save(k.opts.Dir, keys); err != nil {
		return Key{}, fmt.Errorf("signing keys: %w", err)
	}
	k.keys = keys
	return k.describe(len(keys) - 1), nil
}

// Retire removes a key that is not the current one. It is refused where one of
// the clusters, given with the IDs that each trusts, would trust no key of the
// relay any more; force retires it all the same, and each of those has to join
// again. They are returned.
func (k *Keys) Retire(id string, clusters map[string][]string, force bool) (stranded []string, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.keys, func(key key) bool { return key.id() == id })
	switch {
	case i < 0:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, protocol.Cut(id, 40))
	case i == len(k.keys)-1:
		return nil, fmt.Errorf("signing key %s: %w: it is the newest: make another one first, with `trainrelay key rotate`", id, ErrNeeded)
	}
	stranded = k.dependOn(id, clusters)
	if len(stranded) > 0 && !force {
		return stranded, fmt.Errorf("signing key %s: %w: %s: wait until they have synced, and join tokens that name it were used or have expired; with --force it is retired all the same, and they have to join again with `trainrelay cluster connect`",
			id, ErrNeeded, protocol.Cut("no newer key is trusted by "+strings.Join(stranded, ", "), 500))
	}
	keys := slices.Delete(slices.Clone(k.keys), i, i+1)
	if err := save(k.opts.Dir, keys); err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	k.keys = keys
	return stranded, nil
}

// Dependent are those of the clusters, given with the IDs that each trusts,
// that trust the key and no other one of the relay.
func (k *Keys) Dependent(id string, clusters map[string][]string) []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.dependOn(id, clusters)
}

func (k *Keys) dependOn(id string, clusters map[string][]string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		trusted := clusters[name]
		other := slices.ContainsFunc(k.keys, func(key key) bool { return key.id() != id && slices.Contains(trusted, key.id()) })
		if slices.Contains(trusted, id) && !other {
			names = append(names, name)
		}
	}
	return names
}

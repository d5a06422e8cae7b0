package broker

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// place is a connection: at a server, its number there.
type place struct {
	server string
	id     uint64
}

// connections are those of agents, by key, at all servers and however many
// relays let them in: from what this relay answered, and from the servers'
// word on who came and went.
type connections struct {
	mu    sync.Mutex
	keyOf map[place]string
	byKey map[string]map[place]time.Time // until when they count
}

// unseen is how long a connection counts that was let in and of which the
// server has not said yet that it is there.
const unseen = 15 * time.Second

func newConnections() *connections {
	return &connections{keyOf: map[place]string{}, byKey: map[string]map[place]time.Time{}}
}

// admit counts a connection in, unless the key has most already.
func (c *connections) admit(key string, at place, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for old, until := range c.byKey[key] {
		if now.After(until) {
			c.remove(old)
		}
	}
	if _, again := c.byKey[key][at]; !again && len(c.byKey[key]) >= most {
		return false
	}
	c.set(key, at, now.Add(unseen))
	return true
}

// seen notes that a connection is there, for at most so long: a server that
// dies says nothing of those that it had.
func (c *connections) seen(key string, at place, life time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(key, at, time.Now().Add(life))
}

// gone notes that a connection has ended.
func (c *connections) gone(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(at)
}

// of are the connections that were made with the key.
func (c *connections) of(key string) []place {
	c.mu.Lock()
	defer c.mu.Unlock()
	places := make([]place, 0, len(c.byKey[key]))
	for at := range c.byKey[key] {
		places = append(places, at)
	}
	return places
}

// keys are those that connections were made with.
func (c *connections) keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.byKey))
}

// count is how many there are.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for at, key := range c.keyOf {
		if now.After(c.byKey[key][at]) {
			c.remove(at)
		}
	}
	return len(c.keyOf)
}

func (c *connections) set(key string, at place, until time.Time) {
	if old, ok := c.keyOf[at]; ok && old != key {
		c.remove(at)
	}
	c.keyOf[at] = key
	if c.byKey[key] == nil {
		c.byKey[key] = map[place]time.Time{}
	}
	c.byKey[key][at] = until
}

func (c *connections) remove(at place) {
	key, ok := c.keyOf[at]
	if !ok {
		return
	}
	delete(c.keyOf, at)
	if delete(c.byKey[key], at); len(c.byKey[key]) == 0 {
		delete(c.byKey, key)
	}
}

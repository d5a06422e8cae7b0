package link

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/trainrelay/trainrelay/protocol"
)

// outbox holds the observations that the relay has not answered for: of each
// attempt the newest one, or its end.
type outbox struct {
	ready chan struct{} // something may wait

	mu      sync.Mutex
	waiting map[protocol.Ref]protocol.Event
	order   []protocol.Ref // of waiting, the longest waiting first
	told    map[protocol.Ref]told
}

// told is what the relay last answered for, of an attempt.
type told struct {
	event   protocol.Event
	unknown bool // the relay does not have the attempt: nothing more is told
}

func newOutbox() *outbox {
	return &outbox{
		ready:   make(chan struct{}, 1),
		waiting: make(map[protocol.Ref]protocol.Event),
		told:    make(map[protocol.Ref]told),
	}
}

// put takes in an observation. It is an error where no relay could accept it.
func (o *outbox) put(e protocol.Event) error {
	// What other programs said may be anything; the relay refuses a whole
	// batch over one message that is too long once it became valid UTF-8.
	if e.Reason != nil {
		e.Reason = protocol.NewReason(e.Reason.Code, "%s", strings.ToValidUTF8(e.Reason.Message, "?"))
	}
	e.Node = protocol.Cut(strings.ToValidUTF8(e.Node, "?"), protocol.MaxNode)
	e.Version = protocol.Version{Term: 1}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("observation: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	before, waits := o.waiting[e.Ref]
	known, ok := o.told[e.Ref]
	switch {
	case waits && before.State.Terminal():
		return nil // the first end stands
	case ok && known.unknown:
		return nil
	case ok && !waits && same(known.event, e):
		return nil
	case !waits:
		o.order = append(o.order, e.Ref)
	}
	o.waiting[e.Ref] = e
	poke(o.ready)
	return nil
}

// next returns the events that have waited longest, at most limit.
func (o *outbox) next(limit int) []protocol.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := make([]protocol.Event, 0, min(limit, len(o.order)))
	for _, ref := range o.order[:cap(events)] {
		events = append(events, o.waiting[ref])
	}
	return events
}

// settle takes in the relay's answer for an event. An observation made since
// it was sent goes on waiting.
func (o *outbox) settle(sent protocol.Event, outcome protocol.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	unknown := outcome == protocol.Unknown
	if unknown || same(o.waiting[sent.Ref], sent) {
		o.remove(sent.Ref)
	}
	o.told[sent.Ref] = told{event: sent, unknown: unknown}
}

// putOff lets all others go before the attempt's event.
func (o *outbox) putOff(ref protocol.Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.waiting[ref]; ok {
		o.remove(ref)
		o.waiting[ref] = e
		o.order = append(o.order, ref)
	}
}

func (o *outbox) remove(ref protocol.Ref) {
	delete(o.waiting, ref)
	if i := slices.Index(o.order, ref); i >= 0 {
		o.order = slices.Delete(o.order, i, i+1)
	}
}

// ends lists the attempts whose end waits to be told.
func (o *outbox) ends() []protocol.Ref {
	o.mu.Lock()
	defer o.mu.Unlock()
	var refs []protocol.Ref
	for _, ref := range o.order {
		if o.waiting[ref].State.Terminal() {
			refs = append(refs, ref)
		}
	}
	return refs
}

// ending reports whether the attempt's end waits to be told.
func (o *outbox) ending(ref protocol.Ref) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting[ref].State.Terminal()
}

// retain forgets what was told of attempts that are not held any more, which
// keeps its memory bounded. At worst something is told twice.
func (o *outbox) retain(held []protocol.Ref) {
	alive := make(map[protocol.Ref]bool, len(held))
	for _, ref := range held {
		alive[ref] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref := range o.told {
		if !alive[ref] {
			delete(o.told, ref)
		}
	}
}

// forget makes everything news again.
func (o *outbox) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.told)
}

// reset empties the outbox.
func (o *outbox) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.told)
	clear(o.waiting)
	o.order = nil
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.order)
}

// same reports whether two observations say the same thing, whenever they
// were made.
func same(a, b protocol.Event) bool {
	return a.State == b.State && a.Node == b.Node && a.Retry == b.Retry &&
		equal(a.Reason, b.Reason) && equal(a.ExitCode, b.ExitCode)
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

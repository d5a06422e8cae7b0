package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Outlet hands all output on, in order, to somebody who sends it elsewhere, and
// keeps how far that has come. Of all relays that share the store, one at a time
// has the turn: it renews it every few seconds, by compare-and-set, and another
// takes it over where it was not renewed for long.
type Outlet struct {
	store *Store
	opts  OutletOptions
	marks jetstream.Stream

	mu   sync.Mutex // one writer of the mark
	mark mark
	seq  uint64 // of the mark
}

// OutletOptions of an outlet.
type OutletOptions struct {
	Owner string // this relay's name, of this run
	// Alone: there is no other relay, so that the turn is taken at once.
	Alone bool
}

// Place is how far output has been handed on: all lines that end with the chunk
// To, or before it. From is where the oldest line begins that does not.
type Place struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// mark is the place and who has the turn.
type mark struct {
	Place
	Owner string `json:"owner,omitempty"`
}

// Run is what a chunk brings.
type Run struct {
	Lines   []Line
	Place   Place     // behind it
	Taken   time.Time // when the chunk came
	Behind  uint64    // chunks that are there behind it
	Dropped uint64    // chunks before it that made place unread
}

const (
	marksName   = "LOGSENT"
	markSubject = "logsent.place"

	renewEvery = 5 * time.Second
	// lease is how long a turn lasts that is not renewed.
	lease = 6 * renewEvery
)

// errTurn is the end of a turn that somebody else has taken.
var errTurn = errors.New("another relay has taken over")

// Outlet opens the way out. Where the store has lost its end, as by a power cut,
// it goes back there: it must be called before output comes in again.
func (s *Store) Outlet(ctx context.Context, opts OutletOptions) (*Outlet, error) {
	marks, err := s.opts.JetStream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: marksName, Subjects: []string{markSubject}, MaxMsgsPerSubject: 1, MaxBytes: 1 << 20, Discard: jetstream.DiscardOld,
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", marksName, err)
	}
	o := &Outlet{store: s, opts: opts, marks: marks}
	if err := o.read(ctx); err != nil {
		return nil, err
	}
	last, err := s.last(ctx) // after the mark, which is never ahead of it
	if err != nil {
		return nil, fmt.Errorf("read the state of the stream %s: %w", streamName, err)
	}
	if o.mark.To > last {
		err := o.write(ctx, mark{Place: Place{From: last + 1, To: last}})
		if err != nil && !errors.Is(err, errTurn) { // another relay is at it
			return nil, err
		}
	}
	return o, nil
}

// Hold waits for the turn and works as long as it has it. The work's context
// ends when the turn does.
func (o *Outlet) Hold(ctx context.Context, work func(context.Context) error) error {
	if err := o.take(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			o.mu.Lock()
			err := o.write(ctx, o.mark)
			o.mu.Unlock()
			if errors.Is(err, errTurn) {
				cancel(err)
			}
		}
	})
	err := work(ctx)
	if lost := context.Cause(ctx); errors.Is(lost, errTurn) {
		err = lost
	}
	cancel(nil)
	renewing.Wait()
	leaving, done := context.WithTimeout(context.WithoutCancel(ctx), renewEvery)
	defer done()
	o.mu.Lock()
	defer o.mu.Unlock()
	// If it cannot be left, another relay waits until it has run out.
	_ = o.write(leaving, mark{Place: o.mark.Place})
	return err
}

// take waits until nobody else has the turn.
func (o *Outlet) take(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if err := o.read(ctx); err != nil {
			return err
		}
		free := o.opts.Alone || o.mark.Owner == "" || o.mark.Owner == o.opts.Owner
		for seen, waited := o.seq, time.Duration(0); !free; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(renewEvery):
			}
			waited += renewEvery
			if err := o.read(ctx); err != nil {
				return err
			}
			if o.seq != seen {
				seen, waited = o.seq, 0
			}
			free = o.mark.Owner == "" || waited >= lease
		}
		err := o.write(ctx, mark{Place: o.mark.Place, Owner: o.opts.Owner})
		if !errors.Is(err, errTurn) {
			return err
		}
	}
}

// Keep keeps the place, behind what was accepted elsewhere.
func (o *Outlet) Keep(ctx context.Context, place Place) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write(ctx, mark{Place: place, Owner: o.opts.Owner})
}

func (o *Outlet) read(ctx context.Context) error {
	kept, err := o.marks.GetLastMsgForSubject(ctx, markSubject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		o.mark, o.seq = mark{}, 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("read how far output was sent on: %w", err)
	}
	o.mark, o.seq = mark{}, kept.Sequence
	if err := json.Unmarshal(kept.Data, &o.mark); err != nil {
		return fmt.Errorf("read how far output was sent on: %w", err)
	}
	return nil
}

func (o *Outlet) write(ctx context.Context, m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("keep how far output was sent on: %w", err)
	}
	ack, err := o.store.opts.JetStream.Publish(ctx, markSubject, data, jetstream.WithExpectLastSequencePerSubject(o.seq))
	switch {
	case isConflict(err):
		return errTurn
	case err != nil:
		return fmt.Errorf("keep how far output was sent on: %w", err)
	}
	o.mark, o.seq = m, ack.Sequence
	return nil
}

// Runs yields all output behind the place that is kept, and then what arrives,
// chunk by chunk. It ends with ctx, or with an error.
func (o *Outlet) Runs(ctx context.Context) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		o.mu.Lock()
		from := o.mark.Place
		o.mu.Unlock()
		if err := o.runs(ctx, from, yield); err != nil && ctx.Err() == nil {
			yield(Run{}, fmt.Errorf("read output to send it on: %w", err))
		}
	}
}

func (o *Outlet) runs(ctx context.Context, from Place, yield func(Run, error) bool) error {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{prefix + "*.*.*"}}
	if from.From > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from.From
	}
	consumer, err := o.store.stream.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	var lines joiner
	reached := from.To
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		k, err := parse(m)
		if err != nil {
			return err
		}
		if o.store.opts.Analyzed != nil && !o.store.opts.Analyzed(k.cluster) {
			k.text, k.gap = nil, ""
		}
		run := Run{Taken: k.stored, Behind: k.pending}
		lines.take(&k, k.gap, false, func(line Line) bool {
			if k.seq > from.To {
				run.Lines = append(run.Lines, line)
			}
			return true
		})
		if k.seq <= from.To {
			continue
		}
		if from.From > 0 || reached > 0 {
			run.Dropped = k.seq - reached - 1
		}
		reached = k.seq
		run.Place = Place{From: lines.low(k.seq + 1), To: k.seq}
		if !yield(run, nil) {
			return nil
		}
	}
}

package relay

import (
	"context"
	"crypto/rand"
	"iter"

	"github.com/trainrelay/trainrelay/relay/export"
	"github.com/trainrelay/trainrelay/relay/logs"
)

// outlet is the output as it is sent on.
type outlet struct{ *logs.Outlet }

func (o outlet) Runs(ctx context.Context) iter.Seq2[export.Run, error] {
	return func(yield func(export.Run, error) bool) {
		for run, err := range o.Outlet.Runs(ctx) {
			lines := make([]export.Line, len(run.Lines))
			for i, line := range run.Lines {
				lines[i] = export.Line(line)
			}
			if !yield(export.Run{Lines: lines, Place: export.Place(run.Place), Taken: run.Taken, Behind: run.Behind, Dropped: run.Dropped}, err) {
				return
			}
		}
	}
}

func (o outlet) Keep(ctx context.Context, place export.Place) error {
	return o.Outlet.Keep(ctx, logs.Place(place))
}

// exporter makes what sends output on, before agents bring any. nil for
// nothing, if there is no target.
func (r *Relay) exporter(ctx context.Context) (*export.Exporter, error) {
	if r.opts.Export == nil {
		return nil, nil
	}
	// Of an embedded broker there is no other relay.
	way, err := r.logs.Outlet(ctx, logs.OutletOptions{Owner: rand.Text(), Alone: r.opts.NATS == nil})
	if err != nil {
		return nil, err
	}
	return export.New(export.Options{
		Target: *r.opts.Export, Source: outlet{way}, Log: r.opts.Log.With().Str("room", "export").Logger(), Registerer: r.opts.Registerer,
	})
}

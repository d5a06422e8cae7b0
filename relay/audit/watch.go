package audit

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// watchEvery is how often the log's size is looked at.
	watchEvery = 30 * time.Second
	// warnEvery is how often it is said at most that entries go too early.
	warnEvery = time.Hour
)

// watch is what was found when the log was looked at last.
type watch struct {
	bytes, oldest prometheus.Gauge

	last   jetstream.StreamState
	warned time.Time
}

func newWatch(r prometheus.Registerer) watch {
	with := promauto.With(r)
	return watch{
		bytes: with.NewGauge(prometheus.GaugeOpts{
			Name: "trainrelay_audit_bytes", Help: "Bytes of the audit log; at its limit the oldest entries go before their time."}),
		oldest: with.NewGauge(prometheus.GaugeOpts{
			Name: "trainrelay_audit_oldest_seconds", Help: "Age of the oldest entry of the audit log; 0 where there is none."}),
	}
}

// Run keeps the log's metrics, and warns where entries go before their time,
// until ctx is done.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			l.opts.Log.Debug().Err(err).Msg("cannot look at the audit log's size")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look is not for several at once.
func (l *Log) look(ctx context.Context) error {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return err
	}
	before, state, now := l.watch.last, info.State, l.opts.Now()
	l.watch.last = state
	l.watch.bytes.Set(float64(state.Bytes))
	l.watch.oldest.Set(0)
	if state.Msgs > 0 {
		l.watch.oldest.Set(now.Sub(state.FirstTime).Seconds())
	}
	// What went by age is as old as entries become.
	early := before.Msgs > 0 && state.FirstSeq > before.FirstSeq && now.Sub(before.FirstTime) < l.opts.MaxAge
	if early && (l.watch.warned.IsZero() || now.Sub(l.watch.warned) >= warnEvery) {
		l.watch.warned = now
		l.opts.Log.Warn().Int64("limit", l.opts.MaxBytes).Time("oldest", state.FirstTime).
			Msg("the audit log is full, and its oldest entries go before their time: see who fills it (trainrelay audit), and keep a copy elsewhere")
	}
	return nil
}

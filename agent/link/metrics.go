package link

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	syncs       *prometheus.CounterVec // by result
	syncSeconds prometheus.Histogram
	breaches    *prometheus.CounterVec // by kind
	unsaved     prometheus.Gauge
	starts      prometheus.Counter
	events      *prometheus.CounterVec // by outcome
}

func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trainrelay_agent_events_waiting",
		Help: "Attempts of which something waits to be told to the relay.",
	}, func() float64 { return float64(waiting()) })
	return &metrics{
		syncs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_syncs_total",
			Help: "Syncs with the relay, by result.",
		}, []string{"result"}),
		syncSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "trainrelay_agent_sync_seconds",
			Help:    "Time from sending a sync to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10),
		}),
		breaches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_breaches_total",
			Help: "Answers that were not believed, by kind; nothing in them was acted on.",
		}, []string{"kind"}),
		unsaved: f.NewGauge(prometheus.GaugeOpts{
			Name: "trainrelay_agent_trust_unsaved",
			Help: "1 while what the relay asks to trust cannot be saved, so that it does not count.",
		}),
		starts: f.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_agent_starts_total",
			Help: "Attempts that the relay asked to start, repeated ones included.",
		}),
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_events_total",
			Help: "Events that the relay answered for, by outcome.",
		}, []string{"outcome"}),
	}
}

package link

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	syncs       *prometheus.CounterVec // by result
	syncSeconds prometheus.Histogram
	stale       prometheus.Counter
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
		stale: f.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_agent_stale_answers_total",
			Help: "Answers dropped because they were not to the outstanding sync.",
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

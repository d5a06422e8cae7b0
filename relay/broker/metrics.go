package broker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests    *prometheus.CounterVec
	deadLetters prometheus.Counter
	floods      prometheus.Counter
}

func newMetrics(r prometheus.Registerer, agents func() int) *metrics {
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trainrelay_agent_connections", Help: "Connections of agents, at all NATS servers.",
	}, func() float64 { return float64(agents()) })
	return &metrics{
		requests: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_requests_total",
			Help: "Requests of agents: answered, deferred (too many at once) or dead (cannot be used).",
		}, []string{"result"}),
		deadLetters: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_dead_letters_total",
			Help: "Messages of agents that could not be used and were kept as dead letters.",
		}),
		floods: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_floods_total",
			Help: "How often a cluster was cut off for a while because its agents flooded the relay; the log names it.",
		}),
	}
}

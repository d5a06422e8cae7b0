package broker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests    *prometheus.CounterVec
	deadLetters prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		requests: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_agent_requests_total",
			Help: "Requests of agents: answered, deferred (too many at once) or dead (cannot be used).",
		}, []string{"result"}),
		deadLetters: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_dead_letters_total",
			Help: "Messages of agents that could not be used and were kept as dead letters.",
		}),
	}
}

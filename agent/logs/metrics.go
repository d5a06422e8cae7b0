package logs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	following prometheus.Gauge
	bytes     prometheus.Counter
	gaps      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		following: f.NewGauge(prometheus.GaugeOpts{
			Name: "trainrelay_agent_log_pods",
			Help: "Pods whose output is being followed.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_agent_log_bytes_total",
			Help: "Bytes of output that the relay took.",
		}),
		gaps: f.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_agent_log_gaps_total",
			Help: "Places where output was lost, marked as such.",
		}),
	}
}

package export

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	lines   prometheus.Counter
	refused prometheus.Counter
	batches *prometheus.CounterVec
	dropped prometheus.Counter
	behind  prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) metrics {
	with := promauto.With(registerer)
	return metrics{
		lines: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_export_lines_total", Help: "Lines of output that the collector accepted."}),
		refused: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_export_refused_lines_total", Help: "Lines of output that the collector refused; they were left out."}),
		batches: with.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_export_batches_total",
			Help: "Tries to send a batch: accepted, refused for good and left out, or failed and tried again.",
		}, []string{"result"}),
		dropped: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_export_dropped_chunks_total", Help: "Chunks of output that made place for newer before they were sent."}),
		behind: with.NewGauge(prometheus.GaugeOpts{
			Name: "trainrelay_export_behind_chunks", Help: "Chunks of output that are still to be sent."}),
	}
}

package clusters

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/trainrelay/trainrelay/protocol"
)

type metrics struct {
	syncs   *prometheus.CounterVec
	granted *prometheus.CounterVec
	cancels prometheus.Counter
	missing prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	return &metrics{
		syncs: with.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_syncs_total",
			Help: "Syncs of agents, by answer: answered, need-full, superseded.",
		}, []string{"answer"}),
		granted: with.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_starts_total",
			Help: "Starts answered: new ones, and such that an agent did not get before.",
		}, []string{"grant"}),
		cancels: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_cancels_sent_total", Help: "Cancels in answers to syncs, repeated until the Job is gone."}),
		missing: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_missing_sent_total", Help: "Attempts that a cluster did not hold and was asked to look for."}),
	}
}

func (m *metrics) answered(reply *protocol.SyncReply) {
	answer := "answered"
	if reply.NeedFull {
		answer = "need-full"
	}
	m.syncs.WithLabelValues(answer).Inc()
	m.cancels.Add(float64(len(reply.Cancels)))
	m.missing.Add(float64(len(reply.Missing)))
}

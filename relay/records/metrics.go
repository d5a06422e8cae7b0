package records

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	submitted prometheus.Counter
	claims    prometheus.Counter
	events    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, x *index) *metrics {
	if r != nil {
		r.MustRegister(gauges{x})
	}
	with := promauto.With(r)
	return &metrics{
		submitted: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_jobs_submitted_total", Help: "Jobs accepted."}),
		claims: with.NewCounter(prometheus.CounterOpts{
			Name: "trainrelay_claims_total", Help: "Attempts claimed by clusters."}),
		events: with.NewCounterVec(prometheus.CounterOpts{
			Name: "trainrelay_events_total",
			Help: "Observations of agents, by what became of them: folded, known, unknown, or conflict (with an end that stands).",
		}, []string{"outcome"}),
	}
}

var (
	jobsDesc   = prometheus.NewDesc("trainrelay_jobs", "Jobs on record, by state.", []string{"state"}, nil)
	queuesDesc = prometheus.NewDesc("trainrelay_queued_jobs", "Jobs that wait for a claim, by compute.", []string{"compute"}, nil)
)

// gauges counts records when it is asked.
type gauges struct{ index *index }

func (gauges) Describe(c chan<- *prometheus.Desc) {
	c <- jobsDesc
	c <- queuesDesc
}

func (g gauges) Collect(c chan<- prometheus.Metric) {
	for state, n := range g.index.states() {
		c <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(n), string(state))
	}
	for compute, n := range g.index.queues() {
		c <- prometheus.MustNewConstMetric(queuesDesc, prometheus.GaugeValue, float64(n), compute)
	}
}

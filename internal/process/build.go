package process

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trainrelay/trainrelay/internal/version"
)

// RegisterBuild adds the metric trainrelay_build_info, whose labels name the
// program and its build.
func RegisterBuild(registerer prometheus.Registerer, program string) error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "trainrelay_build_info",
		Help: "Always 1; the labels name the program and its build.",
		ConstLabels: prometheus.Labels{
			"program": program, "version": version.Short(), "commit": version.Commit(), "go": runtime.Version(),
		},
	})
	info.Set(1)
	if err := registerer.Register(info); err != nil {
		return fmt.Errorf("register the build's metric: %w", err)
	}
	return nil
}

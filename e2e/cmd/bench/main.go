// Command bench measures trainrelay against the raw system: the time from the
// submission of a job until its Kubernetes Job exists, and jobs a second, each
// beside client-go creating the very same Jobs on the same API server in the
// same run. What counts are the ratios; the machine's own figures differ from
// run to run. It prints a table and writes the figures as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

type options struct {
	Repo       string `help:"The checkout of trainrelay, built." default:".." type:"existingdir"`
	Out        string `help:"File for the figures." default:"../dist/bench.json" type:"path"`
	Sequential int    `help:"Jobs that are submitted one after the other." default:"200"`
	Burst      int    `help:"Jobs that are submitted at once." default:"500"`
	Workers    int    `help:"How many submit at once." default:"10"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	command := kong.Parse(&o, kong.Name("bench"))
	command.FatalIfErrorf(run(ctx, o))
}

func run(ctx context.Context, o options) error {
	repo, err := filepath.Abs(o.Repo)
	if err != nil {
		return err
	}
	o.Repo = repo
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	report, err := s.measure(ctx)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.Out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.Out, append(data, '\n'), 0o644)
}

// Report is what a run measured.
type Report struct {
	Version  string             `json:"version"`
	CPUs     int                `json:"cpus"`
	Load     string             `json:"load_average"` // before the run
	Product  Figures            `json:"trainrelay"`
	Raw      Figures            `json:"client_go"`
	Ratios   Figures            `json:"ratios"` // trainrelay's by client-go's
	RSSBytes map[string]float64 `json:"rss_bytes"`
}

// Figures of one way to create Jobs.
type Figures struct {
	P50  float64 `json:"created_p50_seconds"` // from the submission until the Job is seen
	P99  float64 `json:"created_p99_seconds"`
	Rate float64 `json:"jobs_per_second"` // from the first submission until the last Job is seen
}

func (r *Report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\ttrainrelay\tclient-go\tratio\t\n")
	fmt.Fprintf(t, "submit → Job seen, p50, ms\t%.1f\t%.1f\t%.2f\t\n", r.Product.P50*1e3, r.Raw.P50*1e3, r.Ratios.P50)
	fmt.Fprintf(t, "submit → Job seen, p99, ms\t%.1f\t%.1f\t%.2f\t\n", r.Product.P99*1e3, r.Raw.P99*1e3, r.Ratios.P99)
	fmt.Fprintf(t, "jobs per second\t%.0f\t%.0f\t%.2f\t\n", r.Product.Rate, r.Raw.Rate, r.Ratios.Rate)
	for _, name := range []string{"relay", "agent"} {
		fmt.Fprintf(t, "RSS of the %s, MiB\t%.0f\t\t\t\n", name, r.RSSBytes[name]/(1<<20))
	}
	t.Flush()
	fmt.Fprintf(w, "%d CPUs, load average before the run %s\n", r.CPUs, r.Load)
}

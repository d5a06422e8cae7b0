package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/version"
	"github.com/trainrelay/trainrelay/protocol"
)

// roomOfCompute is how many Jobs without a node an agent lets a compute have.
// The API server has no nodes, so jobs are spread over several computes.
const roomOfCompute = 16

// submit has one job created, one way or the other.
type submit func(ctx context.Context, number int, name string) error

// measure runs both ways in turn, each once to warm up.
func (s *site) measure(ctx context.Context) (*Report, error) {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	r := &Report{Version: version.Short(), CPUs: runtime.NumCPU(), Load: strings.Join(strings.Fields(string(load))[:3], " ")}
	for _, way := range []struct {
		name   string
		submit submit
		into   *Figures
	}{{"trainrelay", s.submitThroughRelay, &r.Product}, {"client-go", s.submitRaw, &r.Raw}} {
		fmt.Fprintf(os.Stderr, "bench: %d jobs one by one, then %d at once, by %s\n", s.o.Sequential, s.o.Burst, way.name)
		if _, err := s.oneByOne(ctx, way.name+"-warm", 20, way.submit); err != nil {
			return nil, err
		}
		took, err := s.oneByOne(ctx, way.name+"-one", s.o.Sequential, way.submit)
		if err != nil {
			return nil, err
		}
		slices.Sort(took)
		way.into.P50 = took[len(took)/2].Seconds()
		way.into.P99 = took[len(took)*99/100].Seconds()
		if way.into.Rate, err = s.burst(ctx, way.name+"-burst", way.submit); err != nil {
			return nil, err
		}
	}
	r.Ratios = Figures{P50: r.Product.P50 / r.Raw.P50, P99: r.Product.P99 / r.Raw.P99, Rate: r.Product.Rate / r.Raw.Rate}
	r.RSSBytes, err = s.rss()
	return r, err
}

// oneByOne submits jobs, each when the Job of the one before was seen.
func (s *site) oneByOne(ctx context.Context, prefix string, n int, do submit) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		seen := s.seen.expect(name)
		began := time.Now()
		if err := do(ctx, i, name); err != nil {
			return nil, err
		}
		at, err := await(ctx, name, seen)
		if err != nil {
			return nil, err
		}
		took[i] = at.Sub(began)
	}
	return took, s.clear(ctx)
}

// burst submits jobs from several workers and returns Jobs a second.
func (s *site) burst(ctx context.Context, prefix string, do submit) (float64, error) {
	began := time.Now()
	var last time.Time
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.Workers)
	expected := map[string]<-chan time.Time{}
	for i := range s.o.Burst {
		name := fmt.Sprintf("%s-%d", prefix, i)
		expected[name] = s.seen.expect(name)
		g.Go(func() error { return do(gctx, i, name) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for name, seen := range expected {
		at, err := await(ctx, name, seen)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return float64(s.o.Burst) / last.Sub(began).Seconds(), s.clear(ctx)
}

func await(ctx context.Context, name string, seen <-chan time.Time) (time.Time, error) {
	select {
	case at := <-seen:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	case <-time.After(2 * time.Minute):
		return time.Time{}, fmt.Errorf("no Job of %s after two minutes", name)
	}
}

func (s *site) submitThroughRelay(ctx context.Context, number int, name string) error {
	_, _, err := s.relay.Submit(ctx, s.job(number, name))
	return err
}

func (s *site) submitRaw(ctx context.Context, number int, name string) error {
	job, err := workload.Job(&protocol.Start{Attempt: 1, Job: s.job(number, name)}, &protocol.Compute{Namespace: namespace}, s.workload)
	if err != nil {
		return err
	}
	_, err = s.kube.BatchV1().Jobs(namespace).Create(ctx, job, metav1.CreateOptions{})
	return err
}

// job is the same for both ways but for its name.
func (s *site) job(number int, name string) protocol.Job {
	return protocol.Job{Name: name, Command: "true", Image: "bench", Compute: compute(number / roomOfCompute % s.computes), Instances: 1}
}

package records

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestJobsNewestFirst(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	var want []string
	for i := range 25 {
		job := sample(fmt.Sprintf("job-%02d", i))
		job.Experiment = fmt.Sprint("experiment-", i%2)
		submit(t, s, job)
		want = append([]string{job.Name}, want...)
	}
	finish(t, s, "job-03", protocol.Failed)
	pages := func(q Query) (names []string) {
		t.Helper()
		for range 100 {
			jobs, next, err := s.Jobs(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, job := range jobs {
				names = append(names, job.Name)
			}
			if q.After = next; next == "" {
				return names
			}
		}
		t.Fatal("the pages have no end")
		return nil
	}
	for _, limit := range []int{0, 1, 7, 25, 1000} {
		if diff := cmp.Diff(want, pages(Query{Limit: limit})); diff != "" {
			t.Errorf("in pages of %d: %s", limit, diff)
		}
	}
	if got := pages(Query{Status: protocol.Failed}); !slices.Equal(got, []string{"job-03"}) {
		t.Errorf("failed: %v", got)
	}
	if got := pages(Query{Experiment: "experiment-1", Limit: 5}); len(got) != 12 {
		t.Errorf("of an experiment: %v", got)
	}
	if _, _, err := s.Jobs(t.Context(), Query{After: "junk"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a junk cursor: %v", err)
	}
}

// TestNotResponding: a claimed job whose cluster fell silent says so, and a
// relay that has just started gives clusters the time to come back.
func TestNotResponding(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	now := time.Now()
	s, _ := open(t, js, Options{})
	s.opts.Now = func() time.Time { return now }
	withCompute(t, s)
	submit(t, s, sample("job"))
	if _, ok, err := s.Claim(t.Context(), "c", "job"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want := func(state protocol.State) {
		t.Helper()
		if job, err := s.Job(t.Context(), "job"); err != nil || job.Status != state {
			t.Errorf("%s (%v), %v; want %s", job.Status, job.Reason, err, state)
		}
	}
	want(protocol.Queued)
	now = now.Add(protocol.PresenceTimeout + time.Second)
	want(protocol.NotResponding)
	s.Seen("c", &protocol.Sync{Info: protocol.Info{AgentVersion: "1.0"}}, 0)
	want(protocol.Queued)
	if c, err := s.Cluster(t.Context(), "c"); err != nil || c.Connectivity != v1.Connected || c.AgentVersion != "1.0" {
		t.Errorf("%+v, %v", c, err)
	}
	now = now.Add(protocol.PresenceTimeout + time.Second)
	want(protocol.NotResponding)
	jobs, _, err := s.Jobs(t.Context(), Query{Status: protocol.NotResponding})
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs do not respond, %v", len(jobs), err)
	}
}

func TestComputes(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	put := func(name, cluster, namespace, description string) error {
		_, _, err := s.PutCompute(t.Context(), name, v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: cluster, Namespace: namespace, Description: description}}, "admin")
		return err
	}
	for _, test := range []struct {
		name, cluster, namespace, description string
		want                                  error
	}{
		{"gpu", "c", "gpu", "", nil},
		{"gpu", "c", "gpu", "new", nil},
		{"gpu", "c", "cpu", "", ErrConflict},
		{"x", "c", "azureml", "", ErrInvalid},
		{"x", "nowhere", "train", "", ErrInvalid},
		{"-", "c", "Train", "", ErrInvalid},
	} {
		if err := put(test.name, test.cluster, test.namespace, test.description); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	submit(t, s, sample("one"))
	submit(t, s, sample("two"))
	if _, ok, err := s.Claim(t.Context(), "other", "two"); ok || err != nil {
		t.Errorf("a cluster claimed a job of another one's compute: %v, %v", ok, err)
	}
	if _, ok, err := s.Claim(t.Context(), "c", "two"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	computes, err := s.Computes(t.Context())
	if err != nil || len(computes) != 2 || computes[0].Queued != 1 || computes[0].Active != 1 || computes[1].Description != "new" {
		t.Errorf("%+v, %v", computes, err)
	}
}

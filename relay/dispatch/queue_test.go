package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestPriorityThenAgeThenName(t *testing.T) {
	var q Queue
	for _, job := range []Job{
		{Name: "young", Compute: "a", Created: epoch.Add(time.Hour)},
		{Name: "old", Compute: "a", Created: epoch},
		{Name: "urgent", Compute: "a", Priority: 5, Created: epoch.Add(2 * time.Hour)},
		{Name: "later", Compute: "a", Priority: -1, Created: epoch},
		{Name: "old-twin", Compute: "a", Created: epoch},
		{Name: "other", Compute: "b", Priority: 9, Created: epoch},
		{Name: "gpu", Compute: "a", InstanceType: "gpu", Priority: 9, Created: epoch},
	} {
		q.Put(job)
		q.Put(job)
	}
	if diff := cmp.Diff([]string{"urgent", "old", "old-twin", "young", "later"}, q.Next("a", "", 10)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"urgent", "old"}, q.Next("a", "", 2)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"gpu"}, q.Next("a", "gpu", 2)); diff != "" {
		t.Error(diff)
	}
	if got := q.Next("none", "", 3); len(got) != 0 {
		t.Errorf("a compute without jobs offers %q", got)
	}
}

// TestQueueIsASortedSet compares the queue with a map that is sorted on demand.
func TestQueueIsASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		model := map[string]Job{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := rapid.IntRange(0, 15).Draw(t, "id")
			job := Job{
				Name:     fmt.Sprint("job-", id),
				Compute:  fmt.Sprint("compute-", id%2),
				Priority: id % 3,
				Created:  epoch.Add(time.Duration(id/4) * time.Second),
			}
			if rapid.Bool().Draw(t, "put") {
				q.Put(job)
				model[job.Name] = job
			} else {
				q.Remove(job)
				delete(model, job.Name)
			}
			for _, compute := range []string{"compute-0", "compute-1"} {
				var want []*Job
				for job := range maps.Values(model) {
					if job.Compute == compute {
						want = append(want, &job)
					}
				}
				slices.SortFunc(want, compare)
				names := make([]string, 0, len(want))
				for _, job := range want {
					names = append(names, job.Name)
				}
				if diff := cmp.Diff(names, q.Next(compute, "", 100)); diff != "" {
					t.Fatal(diff)
				}
			}
		}
	})
}

// BenchmarkDrain takes the jobs of a long queue in their turn.
func BenchmarkDrain(b *testing.B) {
	var q Queue
	jobs := map[string]Job{}
	for i := range 100_000 {
		job := Job{Name: fmt.Sprint("job-", i), Compute: "a", Created: epoch.Add(time.Duration(i))}
		jobs[job.Name] = job
		q.Put(job)
	}
	for b.Loop() {
		job := jobs[q.Next("a", "", 1)[0]]
		q.Remove(job)
		job.Created = job.Created.Add(time.Hour)
		jobs[job.Name] = job
		q.Put(job)
	}
}

// Package dispatch decides which queued job an instance type of a compute is
// granted next: the one of the highest priority, of those the oldest.
//
// A [Queue] is only an order kept in memory. The records hold the truth: what
// the queue offers may have been claimed elsewhere, which the claim finds out.
// It is rebuilt from the records at start and needs no care when things fail.
package dispatch

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Job is what the order depends on.
type Job struct {
	Name         string
	Compute      string
	InstanceType string
	Priority     int
	Created      time.Time
}

// place is where a job waits: jobs of one instance type keep none of another
// from theirs.
type place struct{ compute, instanceType string }

func (j *Job) place() place { return place{j.Compute, j.InstanceType} }

// compare orders jobs by their turn. Names make the order total.
func compare(a, b *Job) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

// Queue holds the queued jobs of all computes. The zero value is empty.
type Queue struct {
	mu     sync.RWMutex
	places map[place][]*Job // in the order of their turn
}

// Put takes a job in; one that is in already stays where it is.
func (q *Queue) Put(job Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.places[job.place()]
	i, found := slices.BinarySearchFunc(jobs, &job, compare)
	if found {
		return
	}
	if q.places == nil {
		q.places = map[place][]*Job{}
	}
	q.places[job.place()] = slices.Insert(jobs, i, &job)
}

// Remove takes a job out, if it is in.
func (q *Queue) Remove(job Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.places[job.place()]
	i, found := slices.BinarySearchFunc(jobs, &job, compare)
	switch {
	case !found:
	case len(jobs) == 1:
		delete(q.places, job.place())
	default:
		// Jobs leave near the front: close the gap from there, so that a long
		// queue costs no more than a short one.
		copy(jobs[1:i+1], jobs[:i])
		jobs[0] = nil
		q.places[job.place()] = jobs[1:]
	}
}

// Next names the jobs of a compute's instance type whose turn is next, at most
// n.
func (q *Queue) Next(compute, instanceType string, n int) []string {
	q.mu.RLock()
	defer q.mu.RUnlock()
	jobs := q.places[place{compute, instanceType}]
	names := make([]string, 0, min(n, len(jobs)))
	for _, job := range jobs[:min(n, len(jobs))] {
		names = append(names, job.Name)
	}
	return names
}

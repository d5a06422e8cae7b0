// Package dispatch decides which queued job a compute is granted next: the one
// of the highest priority, of those the oldest.
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
	Name     string
	Compute  string
	Priority int
	Created  time.Time
}

// compare orders jobs by their turn. Names make the order total.
func compare(a, b *Job) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

// Queue holds the queued jobs of all computes. The zero value is empty.
type Queue struct {
	mu       sync.RWMutex
	computes map[string][]*Job // in the order of their turn
}

// Put takes a job in; one that is in already stays where it is.
func (q *Queue) Put(job Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.computes[job.Compute]
	i, found := slices.BinarySearchFunc(jobs, &job, compare)
	if found {
		return
	}
	if q.computes == nil {
		q.computes = map[string][]*Job{}
	}
	q.computes[job.Compute] = slices.Insert(jobs, i, &job)
}

// Remove takes a job out, if it is in.
func (q *Queue) Remove(job Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.computes[job.Compute]
	i, found := slices.BinarySearchFunc(jobs, &job, compare)
	switch {
	case !found:
	case len(jobs) == 1:
		delete(q.computes, job.Compute)
	default:
		// Jobs leave near the front: close the gap from there, so that a long
		// queue costs no more than a short one.
		copy(jobs[1:i+1], jobs[:i])
		jobs[0] = nil
		q.computes[job.Compute] = jobs[1:]
	}
}

// Next names the jobs of a compute whose turn is next, at most n.
func (q *Queue) Next(compute string, n int) []string {
	q.mu.RLock()
	defer q.mu.RUnlock()
	jobs := q.computes[compute]
	names := make([]string, 0, min(n, len(jobs)))
	for _, job := range jobs[:min(n, len(jobs))] {
		names = append(names, job.Name)
	}
	return names
}

// Len counts the queued jobs of a compute.
func (q *Queue) Len(compute string) int {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return len(q.computes[compute])
}

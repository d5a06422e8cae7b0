package records

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/trainrelay/trainrelay/protocol"
)

// record is a job's status at a revision of its key. It is never changed.
type record struct {
	Name     string
	Revision uint64
	Written  time.Time
	Status
}

// intern shares the strings that many records have in common.
func (r *record) intern() {
	for _, s := range []*string{&r.Compute, &r.InstanceType, &r.CreatedBy, &r.Experiment} {
		*s = unique.Make(*s).Value()
	}
}

func (r *record) queued() Queued {
	return Queued{Name: r.Name, Compute: r.Compute, InstanceType: r.InstanceType, Priority: r.Priority, Created: r.Created}
}

// age orders records by the time of their acceptance.
type age struct {
	created time.Time
	name    string
}

func (a age) compare(b age) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
}

// index is the picture of the jobs' bucket in memory. Of a record, the newest
// revision wins, whether a write's answer or the watch brings it.
type index struct {
	queue Queue

	mu       sync.RWMutex
	jobs     map[string]*record
	ages     []age                          // oldest first
	waiting  map[string]int                 // queued jobs by compute
	active   map[string]map[string]struct{} // live jobs by cluster
	watchers map[string]map[chan struct{}]struct{}
}

func newIndex(queue Queue) *index {
	return &index{
		queue:    queue,
		jobs:     map[string]*record{},
		waiting:  map[string]int{},
		active:   map[string]map[string]struct{}{},
		watchers: map[string]map[chan struct{}]struct{}{},
	}
}

// apply takes in a record, unless a newer one is in.
func (x *index) apply(rec *record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.jobs[rec.Name]
	if old != nil && old.Revision >= rec.Revision {
		return
	}
	if old != nil && !old.Created.Equal(rec.Created) { // purged and submitted anew
		x.drop(old)
		old = nil
	}
	if old == nil {
		a := age{rec.Created, rec.Name}
		i, _ := slices.BinarySearchFunc(x.ages, a, age.compare)
		x.ages = slices.Insert(x.ages, i, a)
	} else {
		x.leave(old)
	}
	x.jobs[rec.Name] = rec
	x.enter(rec)
	x.wake(rec.Name)
}

// remove forgets a record that was deleted at a revision.
func (x *index) remove(name string, revision uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.jobs[name]; old != nil && old.Revision < revision {
		x.drop(old)
		x.wake(name)
	}
}

// drop takes a record out of everything.
func (x *index) drop(rec *record) {
	x.leave(rec)
	delete(x.jobs, rec.Name)
	if i, ok := slices.BinarySearchFunc(x.ages, age{rec.Created, rec.Name}, age.compare); ok {
		x.ages = slices.Delete(x.ages, i, i+1)
	}
}

// enter and leave keep the sets that follow from a record's state.
func (x *index) enter(rec *record) {
	if rec.claimable() {
		x.waiting[rec.Compute]++
		x.queue.Put(rec.queued())
	}
	if a := rec.live(); a != nil {
		if x.active[a.Cluster] == nil {
			x.active[a.Cluster] = map[string]struct{}{}
		}
		x.active[a.Cluster][rec.Name] = struct{}{}
	}
}

func (x *index) leave(rec *record) {
	if rec.claimable() {
		if x.waiting[rec.Compute]--; x.waiting[rec.Compute] == 0 {
			delete(x.waiting, rec.Compute)
		}
		x.queue.Remove(rec.queued())
	}
	if a := rec.live(); a != nil {
		delete(x.active[a.Cluster], rec.Name)
	}
}

// wake tells those who watch the job that it changed.
func (x *index) wake(name string) {
	for c := range x.watchers[name] {
		select {
		case c <- struct{}{}:
		default: // it has yet to look at the change before
		}
	}
}

// watch returns a channel that is signalled after every change of the job, and
// what ends that.
func (x *index) watch(name string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.watchers[name] == nil {
		x.watchers[name] = map[chan struct{}]struct{}{}
	}
	x.watchers[name][c] = struct{}{}
	return c, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if delete(x.watchers[name], c); len(x.watchers[name]) == 0 {
			delete(x.watchers, name)
		}
	}
}

func (x *index) get(name string) *record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.jobs[name]
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.jobs)
}

func (x *index) queued() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := 0
	for _, jobs := range x.waiting {
		n += jobs
	}
	return n
}

// queues counts the queued jobs by compute.
func (x *index) queues() map[string]int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return maps.Clone(x.waiting)
}

// load counts a compute's queued and live jobs.
func (x *index) load(compute, cluster string) (queued, live int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for name := range x.active[cluster] {
		if x.jobs[name].Compute == compute {
			live++
		}
	}
	return x.waiting[compute], live
}

// kinds counts a compute's queued and live jobs by instance type.
func (x *index) kinds(compute string) map[string]int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	count := map[string]int{}
	for _, rec := range x.jobs {
		if rec.Compute == compute && (rec.claimable() || rec.live() != nil) {
			count[rec.InstanceType]++
		}
	}
	return count
}

// live returns the live record of a cluster, by name.
func (x *index) live(cluster string) []*record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	recs := make([]*record, 0, len(x.active[cluster]))
	for name := range x.active[cluster] {
		recs = append(recs, x.jobs[name])
	}
	slices.SortFunc(recs, func(a, b *record) int { return cmp.Compare(a.Name, b.Name) })
	return recs
}

// newest yields the records from the newest to the oldest, starting behind
// after, where that is given. It holds no lock while it yields.
func (x *index) newest(after *age) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		const run = 256
		for {
			recs, last := x.olderThan(after, run)
			for _, rec := range recs {
				if !yield(rec) {
					return
				}
			}
			if last == nil {
				return
			}
			after = last
		}
	}
}

// olderThan returns up to n records, newest first, and where to go on.
func (x *index) olderThan(after *age, n int) (recs []*record, last *age) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	end := len(x.ages)
	if after != nil {
		end, _ = slices.BinarySearchFunc(x.ages, *after, age.compare)
	}
	start := max(0, end-n)
	for _, a := range slices.Backward(x.ages[start:end]) {
		recs = append(recs, x.jobs[a.name])
	}
	if start == 0 {
		return recs, nil
	}
	next := x.ages[start]
	return recs, &next
}

// states counts the records by state.
func (x *index) states() map[protocol.State]int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	counts := map[protocol.State]int{}
	for _, rec := range x.jobs {
		state, _ := rec.State()
		counts[state]++
	}
	return counts
}

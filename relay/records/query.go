package records

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Job is the job of that name.
func (s *Store) Job(ctx context.Context, name string) (v1.Job, error) {
	rec, err := s.record(ctx, name)
	if err != nil {
		return v1.Job{}, err
	}
	return s.viewOf(ctx, rec)
}

// Query selects jobs; an empty field selects all.
type Query struct {
	Status     protocol.State // as users see it, NotResponding included
	Compute    string
	Experiment string
	Limit      int    // jobs in a page; 0 for 50, at most 500
	After      string // where the page before ended
}

// Limits of a page.
const (
	defaultPage = 50
	maxPage     = 500
)

// Jobs is a page of jobs, newest first, and where the next one goes on; empty
// where there is none.
func (s *Store) Jobs(ctx context.Context, q Query) (jobs []v1.Job, next string, _ error) {
	if err := s.ready(ctx); err != nil {
		return nil, "", err
	}
	after, err := parseCursor(q.After)
	if err != nil {
		return nil, "", err
	}
	limit := min(q.Limit, maxPage)
	if limit <= 0 {
		limit = defaultPage
	}
	jobs = []v1.Job{}
	var last age
	for rec := range s.index.newest(after) {
		if !s.matches(rec, q) {
			continue
		}
		if len(jobs) == limit {
			return jobs, last.cursor(), nil
		}
		job, err := s.viewOf(ctx, rec)
		if err != nil {
			return nil, "", err
		}
		jobs, last = append(jobs, job), age{rec.Created, rec.Name}
	}
	return jobs, "", nil
}

func (s *Store) matches(rec *record, q Query) bool {
	if q.Compute != "" && q.Compute != rec.Compute || q.Experiment != "" && q.Experiment != rec.Experiment {
		return false
	}
	if q.Status == "" {
		return true
	}
	state, _ := visible(rec, s.link(rec))
	return state == q.Status
}

// cursor is the age as users hand it back.
func (a age) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(a.created.UnixMicro(), 10) + "." + a.name))
}

func parseCursor(cursor string) (*age, error) {
	if cursor == "" {
		return nil, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	micros, name, ok := strings.Cut(string(data), ".")
	at, numErr := strconv.ParseInt(micros, 10, 64)
	if err != nil || !ok || numErr != nil {
		return nil, fmt.Errorf("%w: the cursor is not one that a page ended with", ErrInvalid)
	}
	return &age{time.UnixMicro(at).UTC(), name}, nil
}

// lookAgain is how often a watch looks for what no write announces: a cluster
// that came or went.
const lookAgain = 5 * time.Second

// Watch yields the job as it is, then whenever its state, reason, attempt,
// cluster or node changed. It ends behind the job's end, with ctx, or with an
// error. Who reads slowly misses states in between.
func (s *Store) Watch(ctx context.Context, name string) iter.Seq2[v1.Job, error] {
	return func(yield func(v1.Job, error) bool) {
		changed, stop := s.index.watch(name)
		defer stop()
		rec, err := s.record(ctx, name)
		if err != nil {
			yield(v1.Job{}, err)
			return
		}
		spec, err := s.spec(ctx, rec)
		if err != nil {
			yield(v1.Job{}, err)
			return
		}
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		var seen v1.Job
		for {
			if job := s.view(rec, spec); seen.Name == "" || differs(seen, job) {
				if !yield(job, nil) || job.Status.Terminal() {
					return
				}
				seen = job
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-changed:
			}
			if rec = s.index.get(name); rec == nil {
				yield(v1.Job{}, fmt.Errorf("job %s: %w: its record was purged", name, ErrNotFound))
				return
			}
		}
	}
}

// differs reports whether what users follow of a job differs.
func differs(a, b v1.Job) bool {
	return a.Status != b.Status || a.Attempt != b.Attempt || a.Cluster != b.Cluster || a.Node != b.Node ||
		(a.Reason == nil) != (b.Reason == nil) || a.Reason != nil && *a.Reason != *b.Reason
}

// Code is the digest of the code of an attempt that the cluster claimed and
// that has not ended.
func (s *Store) Code(ctx context.Context, cluster string, ref protocol.Ref) (string, error) {
	claimed, err := s.Claimed(ctx, cluster, ref)
	if err != nil {
		return "", err
	}
	rec, err := s.record(ctx, ref.Job)
	if err != nil {
		return "", err
	}
	if a := rec.live(); !claimed || a == nil || ref.Attempt != len(rec.Attempts) {
		return "", fmt.Errorf("attempt %s: %w: not one that runs in cluster %s", ref, ErrNotFound, cluster)
	}
	job, err := s.spec(ctx, rec)
	if err != nil {
		return "", err
	}
	if job.Code == "" {
		return "", fmt.Errorf("attempt %s: %w: the job has no code", ref, ErrNotFound)
	}
	return job.Code, nil
}

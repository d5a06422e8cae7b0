package relay

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"syscall"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/relay/api"
	"github.com/trainrelay/trainrelay/relay/audit"
	"github.com/trainrelay/trainrelay/relay/blobs"
	"github.com/trainrelay/trainrelay/relay/logs"
	"github.com/trainrelay/trainrelay/relay/records"
	"github.com/trainrelay/trainrelay/relay/signing"
)

// apiJobs are the records as the API uses them.
type apiJobs struct{ *records.Store }

func (j apiJobs) Jobs(ctx context.Context, q api.Query) ([]v1.Job, string, error) {
	return j.Store.Jobs(ctx, records.Query(q))
}

// apiLogs is the output as the API uses it.
type apiLogs struct{ *logs.Store }

func (l apiLogs) Follow(ctx context.Context, job string, after uint64) iter.Seq2[api.Chunk, error] {
	return func(yield func(api.Chunk, error) bool) {
		for chunk, err := range l.Store.Follow(ctx, job, after) {
			if !yield(api.Chunk(chunk), err) {
				return
			}
		}
	}
}

func (l apiLogs) Search(ctx context.Context, q api.LogQuery) (api.LogPage, error) {
	found, err := l.Store.Search(ctx, logs.Query(q))
	page := api.LogPage{Lines: make([]v1.LogLine, len(found.Lines)), Next: found.Next, Cut: found.Cut}
	for i, line := range found.Lines {
		page.Lines[i] = v1.LogLine{Time: line.Time, Job: line.Job, Attempt: line.Attempt, Rank: line.Rank, Line: string(line.Text), Gap: line.Gap}
	}
	return page, err
}

// apiAudit is the audit log as the API uses it.
type apiAudit struct{ *audit.Log }

func (l apiAudit) Append(ctx context.Context, e v1.AuditEntry) error {
	return l.Log.Append(ctx, audit.Entry(e))
}

func (l apiAudit) List(ctx context.Context, q api.AuditQuery) ([]v1.AuditEntry, uint64, error) {
	found, next, err := l.Log.List(ctx, audit.Query(q))
	entries := make([]v1.AuditEntry, len(found))
	for i, e := range found {
		entries[i] = v1.AuditEntry(e)
	}
	return entries, next, err
}

// status is the status of HTTP that an error of the rooms stands for; 0 where
// it is nobody's fault but the relay's.
func status(err error) int {
	for _, known := range []struct {
		err    error
		status int
	}{
		{records.ErrNotFound, http.StatusNotFound},
		{blobs.ErrNotFound, http.StatusNotFound},
		{signing.ErrUnknown, http.StatusNotFound},
		{records.ErrConflict, http.StatusConflict},
		{records.ErrTokenUnknown, http.StatusUnauthorized},
		{records.ErrTokenExpired, http.StatusGone},
		{records.ErrTokenUsed, http.StatusGone},
		{records.ErrTokenVoid, http.StatusGone},
		{signing.ErrNeeded, http.StatusConflict},
		{records.ErrInvalid, http.StatusUnprocessableEntity},
		{logs.ErrCursor, http.StatusUnprocessableEntity},
		{blobs.ErrMismatch, http.StatusUnprocessableEntity},
		{blobs.ErrEncoding, http.StatusUnprocessableEntity},
		{blobs.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{records.ErrFull, http.StatusInsufficientStorage},
		{blobs.ErrFull, http.StatusInsufficientStorage},
		{syscall.ENOSPC, http.StatusInsufficientStorage},
		{syscall.EDQUOT, http.StatusInsufficientStorage},
	} {
		if errors.Is(err, known.err) {
			return known.status
		}
	}
	return 0
}

// pruneEvery is how often code is looked through for what nobody needs.
const pruneEvery = 6 * time.Hour

// prune removes code that was not used for long and that no unfinished job
// refers to, until ctx is done.
func (f *Front) prune(ctx context.Context, r *Relay) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		freed, err := f.snapshots.Prune(ctx, time.Now().Add(-f.opts.SnapshotRetention), func(ctx context.Context) (map[string]bool, error) {
			return codeInUse(ctx, r.Jobs())
		})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.opts.Log.Error().Err(err).Msg("cannot prune code; trying again later")
		case freed > 0:
			f.opts.Log.Info().Int64("bytes", freed).Msg("pruned code that was not used for long")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// codeInUse are the digests of the code of all unfinished jobs. It goes through
// all jobs in the order of their creation, which no change of state alters.
func codeInUse(ctx context.Context, jobs *records.Store) (map[string]bool, error) {
	used := map[string]bool{}
	for q := (records.Query{Limit: 500}); ; {
		page, next, err := jobs.Jobs(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, job := range page {
			if !job.Status.Terminal() && job.Code != "" {
				used[job.Code] = true
			}
		}
		if q.After = next; next == "" {
			return used, nil
		}
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/clusters"
	"github.com/trainrelay/trainrelay/relay/dispatch"
	"github.com/trainrelay/trainrelay/relay/records"
)

// The rooms know nothing of each other; these types join what they declare.

// queue is the order as the records fill it.
type queue struct{ *dispatch.Queue }

func (q queue) Put(job records.Queued)    { q.Queue.Put(dispatch.Job(job)) }
func (q queue) Remove(job records.Queued) { q.Queue.Remove(dispatch.Job(job)) }

// clusterRecords are the records as the answers to agents use them.
type clusterRecords struct{ *records.Store }

func (r clusterRecords) Claims(cluster string) []clusters.Claim {
	claims := r.Store.Claims(cluster)
	converted := make([]clusters.Claim, len(claims))
	for i, c := range claims {
		converted[i] = clusters.Claim(c)
	}
	return converted
}

func (r clusterRecords) Spec(ctx context.Context, name string) (protocol.Job, error) {
	job, err := r.Store.Spec(ctx, name)
	return job, ofOneJob(err)
}

func (r clusterRecords) Claim(ctx context.Context, cluster, name string) (attempt int, ok bool, err error) {
	attempt, ok, err = r.Store.Claim(ctx, cluster, name)
	return attempt, ok, ofOneJob(err)
}

// ofOneJob marks an error that concerns one job and no other.
func ofOneJob(err error) error {
	if errors.Is(err, records.ErrNotFound) || errors.Is(err, records.ErrSpecLost) {
		return fmt.Errorf("%w: %w", clusters.ErrGone, err)
	}
	return err
}

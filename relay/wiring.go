package relay

import (
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

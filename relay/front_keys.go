package relay

import (
	"slices"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/relay/records"
	"github.com/trainrelay/trainrelay/relay/signing"
)

// apiKeys are the signing keys as the API uses them, with what the records know
// of who trusts them.
type apiKeys struct {
	keys *signing.Keys
	jobs *records.Store
}

// needing are the signing keys that are needed, by cluster, or by the join token
// of one, which names the only key that its agent will believe.
func (k apiKeys) needing() map[string][]string {
	needing := k.jobs.Trusting()
	for cluster, id := range k.jobs.Waiting() {
		needing[cluster+"/join-token"] = []string{id}
	}
	return needing
}

func (k apiKeys) Keys() []v1.Key {
	trusting, needing := k.jobs.Trusting(), k.needing()
	list := []v1.Key{}
	for _, key := range slices.Backward(k.keys.List()) {
		shown := describeKey(key)
		for cluster, ids := range trusting {
			if slices.Contains(ids, key.ID) {
				shown.TrustedBy = append(shown.TrustedBy, cluster)
			}
		}
		slices.Sort(shown.TrustedBy)
		shown.NeededBy = k.keys.Dependent(key.ID, needing)
		list = append(list, shown)
	}
	return list
}

func (k apiKeys) RotateKey(by string) (v1.Key, error) {
	key, err := k.keys.Rotate(by)
	return describeKey(key), err
}

func (k apiKeys) RetireKey(id string, force bool) (v1.RetiredKey, error) {
	stranded, err := k.keys.Retire(id, k.needing(), force)
	return v1.RetiredKey{ID: id, MustJoinAgain: stranded}, err
}

func describeKey(key signing.Key) v1.Key {
	return v1.Key{ID: key.ID, CreationContext: v1.CreationContext{CreatedAt: key.Created, CreatedBy: key.By}, Current: key.Current}
}

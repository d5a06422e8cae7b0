package v1

// Key is a key that the relay signs its answers to agents with.
type Key struct {
	ID              string          `json:"id"`
	CreationContext CreationContext `json:"creation_context"`
	Current         bool            `json:"current" doc:"the newest, by which clusters are answered once they trust it"`
	TrustedBy       []string        `json:"trusted_by,omitempty" doc:"the clusters that said so"`
	NeededBy        []string        `json:"needed_by,omitempty" doc:"those of them that trust no other key of the relay: it must not be retired before they have synced; and CLUSTER/join-token for a token that names it"`
}

// KeyList holds all signing keys, the newest first.
type KeyList struct {
	Value []Key `json:"value"`
}

// RetireSettings is the body of retiring a key.
type RetireSettings struct {
	Force bool `json:"force,omitempty" doc:"retire it although clusters need it, which then have to join again"`
}

// RetiredKey is the answer to retiring a key.
type RetiredKey struct {
	ID            string   `json:"id"`
	MustJoinAgain []string `json:"must_join_again,omitempty" doc:"the clusters that trust no key of the relay any more, and CLUSTER/join-token for a token that is void"`
}

package broker

import (
	"encoding/base64"
	"fmt"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// admission decides who may connect, and as what.
type admission struct {
	self   string // public key of the relay's own connection
	log    zerolog.Logger
	server *server.Server

	relay, agents *server.Account

	mu     sync.RWMutex
	lookup func(publicKey string) (cluster string, ok bool)
}

// bind learns the server's accounts.
func (a *admission) bind(s *server.Server) error {
	var err error
	if a.relay, err = s.LookupAccount("RELAY"); err != nil {
		return fmt.Errorf("broker's account RELAY: %w", err)
	}
	if a.agents, err = s.LookupAccount("AGENTS"); err != nil {
		return fmt.Errorf("broker's account AGENTS: %w", err)
	}
	a.server = s
	return nil
}

// Admit lets agents in from now on: those that prove to have the key of a
// cluster that lookup finds.
func (b *Broker) Admit(lookup func(publicKey string) (cluster string, ok bool)) {
	b.admission.mu.Lock()
	defer b.admission.mu.Unlock()
	b.admission.lookup = lookup
}

// Disconnect cuts the connections that were made with the key.
func (b *Broker) Disconnect(publicKey string) { b.admission.disconnect(publicKey) }

// Check implements server.Authentication.
func (a *admission) Check(c server.ClientAuthentication) bool {
	key := c.GetOpts().Nkey
	if c.Kind() != server.CLIENT || !signed(c) {
		return false
	}
	if key == a.self {
		if c.RemoteAddress().Network() != "pipe" { // in process only
			return false
		}
		c.RegisterUser(&server.User{Account: a.relay})
		return true
	}
	cluster, ok := a.cluster(key)
	if !ok {
		a.log.Warn().Str("key", key).Msg("refused an agent whose key is of no cluster")
		return false
	}
	c.RegisterUser(&server.User{Account: a.agents, Permissions: permissions(cluster)})
	// The cluster may have been deleted between the look-up and here, too
	// early for Disconnect to see this connection.
	_, ok = a.cluster(key)
	return ok
}

func (a *admission) cluster(key string) (string, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.lookup == nil {
		return "", false
	}
	return a.lookup(key)
}

// close lets no agent in any more.
func (a *admission) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lookup = nil
}

// permissions of an agent: its requests, their answers, its nudges.
func permissions(cluster string) *server.Permissions {
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			protocol.UpSubject(cluster, protocol.VerbSync),
			protocol.UpSubject(cluster, protocol.VerbEvent),
			protocol.UpSubject(cluster, protocol.VerbLog),
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			protocol.InboxPrefix(cluster) + ".>",
			protocol.NudgeSubject(cluster, "*"),
		}},
	}
}

// signed reports whether the client signed the nonce with the key it names.
func signed(c server.ClientAuthentication) bool {
	nonce := c.GetNonce()
	public, err := nkeys.FromPublicKey(c.GetOpts().Nkey)
	if err != nil || len(nonce) == 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(c.GetOpts().Sig)
	return err == nil && public.Verify(nonce, signature) == nil
}

// disconnect closes the agents' connections made with the key; all of them
// where key is empty.
func (a *admission) disconnect(key string) {
	connections, err := a.server.Connz(&server.ConnzOptions{Username: true, User: key, Account: "AGENTS", Limit: 1 << 20})
	if err != nil {
		a.log.Error().Err(err).Msg("cannot list the agents' connections to cut them")
		return
	}
	for _, c := range connections.Conns {
		// An error says that the connection is gone already.
		_ = a.server.DisconnectClientByID(c.Cid)
	}
}

func (a *admission) disconnectAll() { a.disconnect("") }

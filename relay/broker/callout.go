package broker

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// callout decides who may connect, and as what: servers ask it about everybody
// but the relay itself.
type callout struct {
	keys  *Keys
	types []string // of agents' connections
	life  time.Duration
	most  int // connections of one key
	log   zerolog.Logger

	connections *connections
	quota       *quota
	welcome     func(cluster string) // before the first of a cluster's agents is let in
	asked       atomic.Int64

	mu     sync.RWMutex
	lookup func(publicKey string) (cluster string, ok bool)
}

// calloutQueue: several relays share the work.
const calloutQueue = "relay"

// checkCluster is what the relay's own check connects as. No cluster can have
// the name.
const checkCluster = "_check"

// Admit lets agents in from now on: those that prove to have the key of a
// cluster that lookup finds. With an external server it first looks, as an
// agent would, whether the server is configured as it has to be; requests must
// be answered by then.
func (b *Broker) Admit(lookup func(publicKey string) (cluster string, ok bool)) error {
	b.callout.open(lookup)
	if _, err := b.door.QueueSubscribe(server.AuthCalloutSubject, calloutQueue, b.callout.answer); err != nil {
		return fmt.Errorf("listen for who may connect: %w", err)
	}
	if err := b.door.Flush(); err != nil {
		return fmt.Errorf("listen for who may connect: %w", err)
	}
	if b.server != nil {
		return nil
	}
	return b.checkAsAgent()
}

func (c *callout) open(lookup func(string) (string, bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookup = lookup
}

// close lets no agent in any more.
func (c *callout) close() { c.open(nil) }

// cluster is whose key it is.
func (c *callout) cluster(key string) (string, bool) {
	if key == public(c.keys.check) {
		return checkCluster, true
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.lookup == nil {
		return "", false
	}
	return c.lookup(key)
}

// revoked reports whether the key is of no cluster, as far as that is known.
func (c *callout) revoked(key string) bool {
	c.mu.RLock()
	knows := c.lookup != nil
	c.mu.RUnlock()
	_, ok := c.cluster(key)
	return knows && !ok
}

// answer answers a server that asks about a client.
func (c *callout) answer(m *nats.Msg) {
	c.asked.Add(1)
	rq, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil || !nkeys.IsValidPublicServerKey(rq.Issuer) {
		c.log.Warn().Msg("cannot read what a NATS server asks about a client; is it of another version?")
		return
	}
	response := jwt.NewAuthorizationResponseClaims(rq.UserNkey)
	response.Audience = rq.Server.ID
	response.Jwt, err = c.admit(rq)
	if err != nil {
		c.log.Warn().Str("key", protocol.Cut(rq.ConnectOptions.Nkey, 80)).Str("from", rq.ClientInformation.Host).
			Err(err).Msg("refused a client of the broker")
		response.Error = err.Error()
	}
	text, err := response.Encode(c.keys.issuer)
	if err != nil {
		c.log.Error().Err(err).Msg("cannot answer a NATS server that asks about a client")
		return
	}
	if err := m.Respond([]byte(text)); err != nil {
		c.log.Warn().Err(err).Msg("cannot answer a NATS server that asks about a client; the client will come again")
	}
}

var (
	errNoKey      = errors.New("it does not prove who it is by an nkey")
	errUnknownKey = errors.New("its key is of no cluster")
	errSignature  = errors.New("it does not have the key that it names")
)

// admit is the JWT of the user that a client becomes.
func (c *callout) admit(rq *jwt.AuthorizationRequestClaims) (string, error) {
	key := rq.ConnectOptions.Nkey
	if key == "" || rq.ClientInformation.Kind != "Client" {
		return "", errNoKey
	}
	cluster, ok := c.cluster(key)
	if !ok {
		return "", errUnknownKey
	}
	if !signed(key, rq.ClientInformation.Nonce, rq.ConnectOptions.SignedNonce) {
		return "", errSignature
	}
	if c.quota.coolingDown(cluster) {
		return "", fmt.Errorf("cluster %s flooded the relay: it is let in again within %v", cluster, coolDown)
	}
	if !c.connections.admit(key, place{rq.Server.ID, rq.ClientInformation.ID}, c.most) {
		return "", fmt.Errorf("cluster %s has %d connections already, which is the most for one key", cluster, c.most)
	}
	// The key may have been revoked between the look-up and here, too early for
	// Disconnect to see this connection.
	if now, ok := c.cluster(key); !ok || now != cluster {
		return "", errUnknownKey
	}
	c.welcome(cluster)
	user := jwt.NewUserClaims(rq.UserNkey)
	user.Name = key // by which servers list the connection
	user.Audience = "AGENTS"
	user.AllowedConnectionTypes = c.types
	user.Expires = time.Now().Add(c.life - rand.N(c.life/5+1)).Unix() // not all at once
	user.Permissions = permissions(cluster)
	return user.Encode(c.keys.issuer)
}

// permissions of an agent: its requests, their answers, its nudges.
func permissions(cluster string) jwt.Permissions {
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: jwt.StringList{
			protocol.UpSubject(cluster, protocol.VerbSync),
			protocol.UpSubject(cluster, protocol.VerbEvent),
			protocol.UpSubject(cluster, protocol.VerbLog),
		}},
		Sub: jwt.Permission{Allow: jwt.StringList{
			protocol.InboxPrefix(cluster) + ".>",
			protocol.NudgeSubject(cluster, "*"),
		}},
	}
}

// signed reports whether somebody with the key signed this connection's nonce.
func signed(key, nonce, signature string) bool {
	public, err := nkeys.FromPublicKey(key)
	if err != nil || nonce == "" {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	return err == nil && public.Verify([]byte(nonce), raw) == nil
}

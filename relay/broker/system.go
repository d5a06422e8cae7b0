package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// What servers say and take on the system's connection.
const (
	subjectPresence   = "$SYS.ACCOUNT.AGENTS.*"
	subjectConnect    = "$SYS.ACCOUNT.AGENTS.CONNECT"
	subjectDisconnect = "$SYS.ACCOUNT.AGENTS.DISCONNECT"
	subjectConnz      = "$SYS.REQ.SERVER.PING.CONNZ"
	subjectVarz       = "$SYS.REQ.SERVER.PING.VARZ"
	subjectKick       = "$SYS.REQ.SERVER.%s.KICK"
)

// presenceEvent is of a connection that came or went.
type presenceEvent struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID   uint64 `json:"id"`
		User string `json:"user"`
	} `json:"client"`
}

// connectionList is a server's answer to who is connected.
type connectionList struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Connections []struct {
			ID   uint64 `json:"cid"`
			User string `json:"authorized_user"`
		} `json:"connections"`
	} `json:"data"`
}

// watchConnections follows who is connected at all servers.
func (b *Broker) watchConnections(ctx context.Context) error {
	// One subscription, so that what came and went is taken in in that order.
	_, err := b.system.Subscribe(subjectPresence, func(m *nats.Msg) {
		var event presenceEvent
		if json.Unmarshal(m.Data, &event) != nil {
			return
		}
		switch m.Subject {
		case subjectConnect:
			b.came(event)
		case subjectDisconnect:
			b.went(event)
		}
	})
	if err != nil {
		return fmt.Errorf("watch the agents' connections: %w", err)
	}
	if b.server != nil {
		return nil // nobody is there yet
	}
	return b.eachConnection(ctx, "", func(key string, at place) {
		b.callout.connections.seen(key, at, b.memory())
	})
}

// memory is how long a connection can be there at most.
func (b *Broker) memory() time.Duration { return b.opts.AgentLife + time.Minute }

// came takes in that an agent connected. Another relay may have let it in that
// did not know yet that its key was revoked, or that its cluster floods.
func (b *Broker) came(event presenceEvent) {
	at := place{event.Server.ID, event.Client.ID}
	cluster, ok := b.callout.cluster(event.Client.User)
	if b.callout.revoked(event.Client.User) || ok && b.quota.coolingDown(cluster) {
		b.kick(at)
		return
	}
	if ok {
		b.welcome(cluster)
	}
	b.callout.connections.seen(event.Client.User, at, b.memory())
}

func (b *Broker) went(event presenceEvent) {
	b.callout.connections.gone(place{event.Server.ID, event.Client.ID})
}

// sweepTime is how long the servers' first answer is waited for, lull how long
// the next one, and sweeps how often they are asked when a key is cut off.
const (
	sweepTime = 2 * time.Second
	lull      = 300 * time.Millisecond
	sweeps    = 3
)

// Disconnect cuts the connections that were made with the key, at all servers.
// It must not be admitted any more. What the relay knows of is cut at once,
// and what servers know of within moments; it does not wait for it.
func (b *Broker) Disconnect(publicKey string) {
	for _, at := range b.callout.connections.of(publicKey) {
		b.kick(at)
	}
	b.work.Go(func() {
		for range sweeps {
			err := b.eachConnection(b.working, publicKey, func(_ string, at place) { b.kick(at) })
			if err != nil && b.working.Err() == nil {
				b.opts.Log.Error().Err(err).Msg("cannot list an agent's connections to cut them; they end when their credentials expire")
			}
		}
	})
}

// kick closes a connection. One that is gone already is no error.
func (b *Broker) kick(at place) {
	request := fmt.Appendf(nil, `{"cid":%d}`, at.id)
	// Servers do nothing for who wants no answer.
	if err := b.system.PublishRequest(fmt.Sprintf(subjectKick, at.server), b.system.NewRespInbox(), request); err != nil {
		b.opts.Log.Error().Err(err).Msg("cannot cut an agent's connection; it ends when its credentials expire")
	}
}

// eachConnection asks all servers for the agents' connections, those of one key
// or, where it is empty, all, and calls visit with what they answer in time.
func (b *Broker) eachConnection(ctx context.Context, key string, visit func(key string, at place)) error {
	request, err := json.Marshal(struct {
		Auth    bool   `json:"auth"`
		User    string `json:"user,omitempty"`
		Account string `json:"acc"`
		Limit   int    `json:"limit"`
	}{true, key, "AGENTS", 1 << 20})
	if err != nil {
		return fmt.Errorf("ask for connections: %w", err)
	}
	return b.askServers(ctx, subjectConnz, request, func(data []byte) {
		var list connectionList
		if json.Unmarshal(data, &list) != nil {
			return
		}
		for _, c := range list.Data.Connections {
			visit(c.User, place{list.Server.ID, c.ID})
		}
	})
}

// askServers sends a request to all servers and calls take with each answer
// that comes in time.
func (b *Broker) askServers(ctx context.Context, subject string, request []byte, take func([]byte)) error {
	inbox := b.system.NewRespInbox()
	answers, err := b.system.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask the NATS servers: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // it fails on a closed connection only
	if err := b.system.PublishRequest(subject, inbox, request); err != nil {
		return fmt.Errorf("ask the NATS servers: %w", err)
	}
	for wait := sweepTime; ; wait = lull {
		next, cancel := context.WithTimeout(ctx, wait)
		m, err := answers.NextMsgWithContext(next)
		cancel()
		if err != nil {
			return nil // how many servers there are, only time tells
		}
		take(m.Data)
	}
}

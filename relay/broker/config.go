package broker

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/trainrelay/trainrelay/protocol"
)

// headroom is what a message may be larger than protocol.MaxMessage on the
// relay's side: a dead letter carries the message and headers that explain it.
const headroom = 64 << 10

// accounts joins the agents' account to the relay's: their requests come over
// as service requests, nudges go back as a stream. An unanswered request is
// forgotten after the threshold.
const accounts = `
accounts {
  RELAY {
    jetstream: enabled
    exports: [
      {service: "up.*.*", accounts: [AGENTS], response_threshold: "5s"}
      {stream: "nudge.*.*", accounts: [AGENTS]}
    ]
  }
  AGENTS {
    limits { max_connections: %d, max_subscriptions: 32, max_payload: %d, max_leafnodes: 0 }
    imports: [
      {service: {account: RELAY, subject: "up.*.*"}}
      {stream: {account: RELAY, subject: "nudge.*.*"}}
    ]
  }
}`

// requestTimeout is how long an agent's request may take: shorter than the
// threshold of the export, after which the answer would be lost.
const requestTimeout = 4 * time.Second

// serverOptions is the configuration of the embedded server.
func serverOptions(dir string, opts Options, admission *admission) (*server.Options, error) {
	o := new(server.Options)
	// An agent may send a little more than a message, so that it is told so
	// instead of being cut off.
	if err := o.ProcessConfigString(fmt.Sprintf(accounts, opts.MaxAgents, protocol.MaxMessage+headroom/2)); err != nil {
		return nil, fmt.Errorf("broker's accounts: %w", err)
	}
	o.ServerName = "relay"
	o.DontListen, o.NoSigs, o.NoLog = true, true, true
	o.JetStream, o.StoreDir, o.SyncAlways = true, dir, true
	o.JetStreamMaxMemory, o.JetStreamMaxStore = 64<<20, opts.MaxStore
	o.MaxPayload, o.MaxControlLine = protocol.MaxMessage+headroom, 4<<10
	o.MaxConn = opts.MaxAgents + 16
	o.WriteDeadline = 10 * time.Second
	o.PingInterval, o.MaxPingsOut = 20*time.Second, 2
	o.AuthTimeout = 5
	o.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: -1, NoTLS: true, HandshakeTimeout: 5 * time.Second}
	o.CustomClientAuthentication, o.AlwaysEnableNonce = admission, true
	return o, nil
}

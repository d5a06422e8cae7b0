// Package broker runs the NATS server that is embedded in the relay: it keeps
// the relay's records and carries the agents' requests.
//
// It guarantees that what JetStream acknowledged is on disk, that an agent
// reaches only the subjects of its own cluster, and that nobody connects
// without a key: the relay's own connection is in process, the agents' come
// through a WebSocket on loopback, to which the relay's front forwards. Agents
// have no JetStream: the relay answers each of their requests itself.
//
// When the disk is full or fails, JetStream gives up: writes return errors,
// nothing is acknowledged any more and [Broker.Ready] says so; the relay must
// be started anew after space was made.
package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Options of a broker.
type Options struct {
	// Dir is the folder of the broker's files; made if missing.
	Dir string
	// MaxStore bounds the bytes of all streams together; 0 for 16 GiB.
	MaxStore int64
	// MaxAgents bounds the agents' connections; 0 for 4000.
	MaxAgents int
	Log       zerolog.Logger
	// Registerer takes the broker's metrics.
	Registerer prometheus.Registerer
}

// Broker is the embedded server and the relay's connection to it.
type Broker struct {
	opts      Options
	admission *admission
	self      nkeys.KeyPair
	metrics   *metrics
	server    *server.Server
	conn      *nats.Conn
	js        jetstream.JetStream
}

// startTimeout bounds the start of the server: it reads its streams back.
const startTimeout = time.Minute

// stopTimeout bounds the wait for agents to be gone before the server stops.
const stopTimeout = 3 * time.Second

// New makes a broker; it runs from Start to Stop.
func New(opts Options) (*Broker, error) {
	if opts.Dir == "" {
		return nil, errors.New("broker: no folder given for its files")
	}
	if opts.MaxStore == 0 {
		opts.MaxStore = 16 << 30
	}
	if opts.MaxAgents == 0 {
		opts.MaxAgents = 4000
	}
	self, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make the broker's key: %w", err)
	}
	public, err := self.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make the broker's key: %w", err)
	}
	return &Broker{
		opts:      opts,
		self:      self,
		admission: &admission{self: public, log: opts.Log},
		metrics:   newMetrics(opts.Registerer),
	}, nil
}

// Start starts the server and connects to it. No agent is let in before Admit.
func (b *Broker) Start(ctx context.Context) error {
	dir, err := filepath.Abs(b.opts.Dir)
	if err != nil {
		return fmt.Errorf("broker's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("broker's folder: %w", err)
	}
	options, err := serverOptions(dir, b.opts, b.admission)
	if err != nil {
		return err
	}
	b.server, err = server.NewServer(options)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.server.SetLoggerV2(serverLog{b.opts.Log}, false, false, false)
	if err := b.admission.bind(b.server); err != nil {
		return err
	}
	b.server.Start()
	if !b.server.ReadyForConnections(startTimeout) {
		b.Stop()
		return fmt.Errorf("broker: not ready after %v; its log says why; its files are in %s", startTimeout, dir)
	}
	if err := b.connect(); err != nil {
		b.Stop()
		return err
	}
	if err := b.makeDeadLetters(ctx); err != nil {
		b.Stop()
		return err
	}
	return nil
}

// connect opens the relay's own connection.
func (b *Broker) connect() error {
	public, err := b.self.PublicKey()
	if err != nil {
		return fmt.Errorf("broker's key: %w", err)
	}
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("relay"),
		nats.Nkey(public, b.self.Sign), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	b.js, err = jetstream.New(b.conn, jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	return nil
}

// Stop cuts the agents off and stops the server. The relay's front must have
// closed the agents' connections and refuse new ones: a server that is being
// stopped must not meet a client that connects. Safe on a half-started broker.
func (b *Broker) Stop() {
	b.admission.close()
	if b.server == nil {
		return
	}
	b.waitForAgents()
	if b.conn != nil {
		b.conn.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// waitForAgents waits until no connection but the relay's own is left.
func (b *Broker) waitForAgents() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for b.server.NumClients() > 1 {
		b.admission.disconnectAll()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// JetStream is where the relay keeps its records and logs; after Start.
func (b *Broker) JetStream() jetstream.JetStream { return b.js }

// WebsocketURL is where the front forwards agents' WebSockets to, with path
// "/"; after Start.
func (b *Broker) WebsocketURL() string { return "http" + b.server.WebsocketURL()[len("ws"):] }

// Agents is how many agents' connections are open.
func (b *Broker) Agents() int { return max(0, b.server.NumClients()-1) }

// errStorage: JetStream gave up on its files.
var errStorage = errors.New("the broker cannot write its files (is the disk full?): make space and start the relay again")

// Ready says why the broker cannot keep records, or nil.
func (b *Broker) Ready(ctx context.Context) error {
	if b.server == nil || b.js == nil {
		return errors.New("the broker has not started")
	}
	if !b.server.JetStreamEnabled() {
		return errStorage
	}
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("the broker does not answer: %w", err)
	}
	return nil
}

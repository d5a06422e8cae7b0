// Package broker is the relay's way to NATS: it keeps the relay's records and
// carries the agents' requests. The server is embedded in the relay, or an
// external one, or a cluster of these.
//
// It guarantees that what JetStream acknowledged is on disk, that an agent
// reaches only the subjects of its own cluster, and that nobody connects
// without a key. Servers ask the relay about everybody who connects (auth
// callout), in the same way embedded and external: the relay verifies that the
// client has the key of a cluster and answers with what it may do, for about an
// hour; then the server cuts the connection and the agent comes again. Each
// connection is bounded in what it may send and subscribe to, each key in its
// connections, each cluster in its requests; a cluster that floods the relay is
// cut off for a while, and what it floods is its own way in. Agents have no
// JetStream: the relay answers each of their requests itself.
//
// An embedded server is reached in process by the relay and by agents through a
// WebSocket on loopback, to which the relay's front forwards. Its keys are made
// anew at every start and never leave the memory. Those for an external server
// are in a folder, and only the relay has them.
//
// While no relay runs, nobody new gets in; who is connected stays, and is not
// answered. When the disk of an embedded server is full or fails, JetStream
// gives up: writes return errors, nothing is acknowledged any more and
// [Broker.Ready] says so; the relay must be started anew after space was made.
// A lost connection to an external server is made again; until then requests
// fail and agents repeat them.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Options of a broker.
type Options struct {
	// Dir is the folder of the embedded server's files; made if missing.
	Dir string
	// External is the server to use instead of an embedded one.
	External *External
	// MaxStore bounds the bytes of all streams together, of an embedded server;
	// 0 for 16 GiB.
	MaxStore int64
	// MaxAgents bounds the agents' connections to an embedded server; 0 for 4000.
	MaxAgents int
	// MaxConnections bounds the connections of one cluster's key; 0 for 1000.
	MaxConnections int
	// MaxRequests bounds the requests of one cluster in a second, of which large
	// ones count as several; 0 for 2000.
	MaxRequests int
	// AgentLife is how long a connection lives before its agent has to prove
	// itself anew, up to a fifth less; 0 for an hour.
	AgentLife time.Duration
	Log       zerolog.Logger
	// Registerer takes the broker's metrics.
	Registerer prometheus.Registerer
}

// External is a NATS server, or several that form a cluster, configured with
// what [Server.Config] says.
type External struct {
	URLs []string // tls://host[:port], or nats:// of this machine
	TLS  *tls.Config
	Keys *Keys
	// Websocket is where agents that come by the relay's front are forwarded
	// to, such as https://host:port; empty for nowhere.
	Websocket string
	Replicas  int // of every stream; 0 for 1
}

// Broker is the relay's side of NATS.
type Broker struct {
	opts    Options
	keys    *Keys
	callout *callout
	metrics *metrics
	server  *server.Server // embedded; nil for an external one

	conn   *nats.Conn // of JetStream, and of nudges
	door   *nats.Conn // on which servers ask who may connect
	system *nats.Conn // in the account that sees and cuts connections
	dial   func(name string, key nkeys.KeyPair) (*nats.Conn, error)
	js     jetstream.JetStream

	lanes    lanes
	requests chan call     // that have a slot
	slots    chan struct{} // of requests under way
	quota    *quota

	work     sync.WaitGroup // in the background, until stop
	working  context.Context
	stopWork context.CancelFunc
}

// startTimeout bounds the start of the server: it reads its streams back.
const startTimeout = time.Minute

// stopTimeout bounds the wait for agents to be gone before the server stops.
const stopTimeout = 3 * time.Second

// New makes a broker; it runs from Start to Stop.
func New(opts Options) (*Broker, error) {
	if opts.MaxStore == 0 {
		opts.MaxStore = defaultMaxStore
	}
	if opts.MaxAgents == 0 {
		opts.MaxAgents = defaultMaxAgents
	}
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 1000
	}
	if opts.MaxRequests == 0 {
		opts.MaxRequests = 2000
	}
	if opts.AgentLife == 0 {
		opts.AgentLife = time.Hour
	}
	b := &Broker{
		opts:     opts,
		lanes:    lanes{of: map[string]*nats.Conn{}},
		requests: make(chan call, maxRequests),
		slots:    make(chan struct{}, maxRequests),
		quota:    newQuota(maxRequestsPerCluster, opts.MaxRequests),
	}
	types := []string{jwt.ConnectionTypeWebsocket}
	switch {
	case opts.External != nil:
		if err := opts.External.check(); err != nil {
			return nil, err
		}
		b.keys = opts.External.Keys
		types = append(types, jwt.ConnectionTypeStandard)
	case opts.Dir == "":
		return nil, errors.New("broker: no folder given for its files")
	default:
		var err error
		if b.keys, err = NewKeys(); err != nil {
			return nil, err
		}
	}
	b.callout = &callout{
		keys: b.keys, types: types, life: opts.AgentLife, most: opts.MaxConnections,
		log: ofStrangers(opts.Log), connections: newConnections(), quota: b.quota, welcome: b.welcome,
	}
	b.metrics = newMetrics(opts.Registerer, b.callout.connections.count)
	b.working, b.stopWork = context.WithCancel(context.Background())
	return b, nil
}

// Start starts the embedded server, or checks the external one, and connects to
// it. No agent is let in before Admit.
func (b *Broker) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			b.Stop()
		}
	}()
	if b.opts.External == nil {
		if err := b.startServer(); err != nil {
			return err
		}
		if err := b.connectEmbedded(); err != nil {
			return err
		}
	} else if err := b.connectExternal(ctx); err != nil {
		return err
	}
	if err := b.watchConnections(ctx); err != nil {
		return err
	}
	return b.makeDeadLetters(ctx)
}

func (b *Broker) startServer() error {
	dir, err := filepath.Abs(b.opts.Dir)
	if err != nil {
		return fmt.Errorf("broker's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("broker's folder: %w", err)
	}
	options, err := embedded(dir, b.opts, b.keys)
	if err != nil {
		return err
	}
	b.server, err = server.NewServer(options)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.server.SetLoggerV2(newServerLog(b.opts.Log), false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startTimeout) {
		return fmt.Errorf("broker: not ready after %v; its log says why; its files are in %s", startTimeout, dir)
	}
	return nil
}

// connect opens the relay's own connections. What agents bring about in any
// number has connections of its own, so that it delays nothing else.
func (b *Broker) connect(servers string, options []nats.Option, explain func(what string, err error) error) (err error) {
	log := ofStrangers(b.opts.Log)
	options = append(options, nats.ErrorHandler(func(c *nats.Conn, _ *nats.Subscription, err error) {
		log.Warn().Err(err).Str("connection", c.Opts.Name).Msg("the NATS server complains, or messages are dropped")
	}))
	b.dial = func(name string, key nkeys.KeyPair) (*nats.Conn, error) {
		return nats.Connect(servers, append(slices.Clip(options), nats.Name(name), nats.Nkey(public(key), key.Sign))...)
	}
	if b.conn, err = b.dial("relay", b.keys.relay); err != nil {
		return explain("connect as the relay", err)
	}
	if b.door, err = b.dial("relay's door", b.keys.relay); err != nil {
		return explain("connect as the relay", err)
	}
	if b.system, err = b.dial("relay's watch", b.keys.system); err != nil {
		return explain("connect to the system's account", err)
	}
	return b.openJetStream()
}

func (b *Broker) connectEmbedded() error {
	options := []nats.Option{nats.InProcessServer(b.server), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond)}
	return b.connect("", options, func(_ string, err error) error { return fmt.Errorf("connect to the broker: %w", err) })
}

// own are the relay's connections, as far as they were opened.
func (b *Broker) own() []*nats.Conn {
	return slices.DeleteFunc(append(b.lanes.connections(), b.system, b.door, b.conn), func(c *nats.Conn) bool { return c == nil })
}

func (b *Broker) openJetStream() error {
	js, err := jetstream.New(b.conn, jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	b.js = js
	if e := b.opts.External; e != nil {
		b.js = replicated{js, max(1, e.Replicas)}
	}
	return nil
}

// Stop cuts the agents off an embedded server and stops it. The relay's front
// must have closed the agents' connections and refuse new ones: a server that
// is being stopped must not meet a client that connects. Safe on a half-started
// broker.
func (b *Broker) Stop() {
	b.callout.close()
	b.lanes.close()
	b.stopWork()
	b.work.Wait()
	if b.server != nil {
		b.waitForAgents()
	}
	for _, conn := range b.own() {
		conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}

// waitForAgents waits until no connection but the relay's own is left.
func (b *Broker) waitForAgents() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for b.agents() > 0 {
		b.disconnectAll()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// agents is how many connections the embedded server has beside the relay's.
func (b *Broker) agents() int {
	own := 0
	for _, conn := range b.own() {
		if conn.IsConnected() {
			own++
		}
	}
	return b.server.NumClients() - own
}

func (b *Broker) disconnectAll() {
	connections, err := b.server.Connz(&server.ConnzOptions{Username: true, Account: "AGENTS", Limit: 1 << 20})
	if err != nil {
		b.opts.Log.Error().Err(err).Msg("cannot list the agents' connections to cut them")
		return
	}
	for _, c := range connections.Conns {
		// An error says that the connection is gone already.
		_ = b.server.DisconnectClientByID(c.Cid)
	}
}

// JetStream is where the relay keeps its records and logs; after Start.
func (b *Broker) JetStream() jetstream.JetStream { return b.js }

// WebsocketURL is where the front forwards agents' WebSockets to; empty for
// nowhere. After Start.
func (b *Broker) WebsocketURL() string {
	if b.server == nil {
		return b.opts.External.Websocket
	}
	return "http" + b.server.WebsocketURL()[len("ws"):]
}

// WebsocketTLS verifies the server there; nil for the system's authorities, or
// where it is on loopback without TLS.
func (b *Broker) WebsocketTLS() *tls.Config {
	if b.server != nil || b.opts.External.TLS == nil {
		return nil
	}
	config := b.opts.External.TLS.Clone()
	config.NextProtos = []string{"http/1.1"} // what a WebSocket begins with
	return config
}

// errStorage: JetStream gave up on its files.
var errStorage = errors.New("the broker cannot write its files (is the disk full?): make space and start the relay again")

// storage says why an embedded server cannot keep anything, or nil.
func (b *Broker) storage() error {
	if b.server != nil && !b.server.JetStreamEnabled() {
		return errStorage
	}
	return nil
}

// Ready says why the broker cannot keep records, or nil.
func (b *Broker) Ready(ctx context.Context) error {
	if b.js == nil {
		return errors.New("the broker has not started")
	}
	if err := b.storage(); err != nil {
		return err
	}
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("the broker does not answer: %w", err)
	}
	return nil
}

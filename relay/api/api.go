// Package api is what the relay serves over HTTP: the users' API under /v1
// with its OpenAPI description, the code of jobs for agents, the agents'
// WebSocket under /nats, and health and metrics.
//
// Everything but /healthz, /readyz, /nats and /v1/agent/enrol needs a bearer
// token: the users' token, or, under /v1/agent, one that the cluster's agent
// signed; a path that does not exist is no exception. On /nats the broker itself
// authenticates; an agent that joins proves to have a join token. Each operation
// names the role that it takes. Bodies, headers and times are bounded, and so is
// the pace of what strangers may try; whoever has a valid token meets no such
// limit. An error is a problem document (RFC 9457) that says what to do; a panic
// ends its request only. No token and no key is ever logged.
//
// A change is in the audit log before it is made, or it is refused; one that
// then fails gets a second entry that says so. So that nobody can push out what
// is in it, what changes nothing by its name is not written, and a token has a
// pace for changes, far above what people and their scripts need.
//
// The API changes nothing by itself: it answers once the stores behind it say
// that an effect is durable, so a request that got no answer may be repeated.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// Jobs keeps jobs.
type Jobs interface {
	Submit(ctx context.Context, job protocol.Job, by string) (_ v1.Job, created bool, _ error)
	Cancel(ctx context.Context, name, by string) (v1.Job, error)
	Job(ctx context.Context, name string) (v1.Job, error)
	Jobs(ctx context.Context, q Query) (jobs []v1.Job, next string, _ error)
	Watch(ctx context.Context, name string) iter.Seq2[v1.Job, error]
	// Code is the digest of the code of an attempt that runs in the cluster.
	Code(ctx context.Context, cluster string, ref protocol.Ref) (digest string, _ error)
}

// Query selects jobs; an empty field selects all.
type Query struct {
	Status     protocol.State
	Compute    string
	Experiment string
	Limit      int
	After      string
}

// Setup keeps computes, clusters and their extensions.
type Setup interface {
	PutCompute(ctx context.Context, name string, c v1.ComputeBody, by string) (_ v1.Compute, created bool, _ error)
	Detach(ctx context.Context, name, by string, cancelJobs bool) (v1.Compute, error)
	Compute(ctx context.Context, name string) (v1.Compute, error)
	Computes(ctx context.Context) ([]v1.Compute, error)
	Connect(ctx context.Context, name, tokenID, keyID string, expires time.Time, by string) (v1.Cluster, error)
	// Joins is the cluster that the join token of that ID is for.
	Joins(tokenID string) (cluster string, ok bool)
	Enrol(ctx context.Context, e *protocol.Enrol) (cluster, keyID string, _ error)
	Disconnect(ctx context.Context, name, by string, cancelJobs bool) (v1.Disconnection, error)
	PutExtension(ctx context.Context, cluster, name string, want v1.ExtensionSettings, by string) (_ v1.Extension, created bool, _ error)
	DeleteExtension(ctx context.Context, cluster, name string) error
	ExtensionOf(ctx context.Context, cluster, name string) (v1.Extension, error)
	Extensions(ctx context.Context, cluster string) ([]v1.Extension, error)
	PutEnvironment(ctx context.Context, name, version string, want v1.EnvironmentSettings, by string) (_ v1.EnvironmentVersion, created bool, _ error)
	DeleteEnvironment(ctx context.Context, name, version string) error
	// Environment is a version, v1.LatestVersion for the newest.
	Environment(ctx context.Context, name, version string) (v1.EnvironmentVersion, error)
	Environments(ctx context.Context, name string) ([]v1.EnvironmentVersion, error)
	Cluster(ctx context.Context, name string) (v1.Cluster, error)
	Clusters(ctx context.Context) ([]v1.Cluster, error)
	ClusterOf(publicKey string) (cluster string, ok bool)
}

// Tokens keeps who may use the API.
type Tokens interface {
	CreateToken(ctx context.Context, want v1.TokenSettings, by string) (v1.NewToken, error)
	Tokens(ctx context.Context) ([]v1.Token, error)
	RevokeToken(ctx context.Context, name string) error
}

// Logs keeps output.
type Logs interface {
	Follow(ctx context.Context, job string, after uint64) iter.Seq2[Chunk, error]
	Search(ctx context.Context, q LogQuery) (LogPage, error)
}

// Chunk is a run of one rank's output.
type Chunk struct {
	Seq     uint64
	Attempt int
	Rank    int
	Text    []byte
	Gap     string
	Again   bool // the place was lost, and the output starts over with this chunk
	EOF     bool
}

// Snapshots keeps code, compressed with gzip, by the digest of the plain tar.
type Snapshots interface {
	Has(ctx context.Context, digest string) (bool, error)
	Put(ctx context.Context, digest string, compressed io.Reader) error
	Get(ctx context.Context, digest string) (compressed io.ReadCloser, size int64, _ error)
}

// Options of an API. All but the times are needed.
type Options struct {
	Jobs      Jobs
	Setup     Setup
	Logs      Logs
	Snapshots Snapshots
	Tokens    Tokens
	Audit     Audit
	Keys      Keys
	// User is whose token it is, or an error that says why it is nobody's.
	User func(token string) (v1.Identity, error)
	// SigningKey is the key that the relay signs with now.
	SigningKey func() protocol.RelayKey
	// Enrolment is the answer to an agent that has joined a cluster, signed
	// with the key of that ID.
	Enrolment func(ctx context.Context, e *protocol.Enrol, cluster, keyID string) ([]byte, error)
	// Named reports whether the relay is reached by the host name.
	Named func(host string) bool
	// Status is the status of HTTP that an error of the stores stands for.
	Status func(error) int
	// Broker is where the broker's WebSocket listens, such as http://127.0.0.1:1;
	// empty where agents do not come this way.
	Broker string
	// BrokerTLS verifies it where it is reached by https.
	BrokerTLS *tls.Config
	// Health serves /healthz and /readyz.
	Health http.Handler
	// Metrics serves /metrics.
	Metrics http.Handler
	Version string
	Log     zerolog.Logger

	// LogWait is how long a stream waits, behind the job's end, for output
	// that is still on its way; 0 for 10 seconds.
	LogWait time.Duration
	// Heartbeat is how often a silent stream shows that it lives; 0 for 15
	// seconds.
	Heartbeat time.Duration
}

// API answers requests from New to Stop.
type API struct {
	opts    Options
	handler http.Handler

	refusals *refusals
	upgrades *limit // of agents' WebSockets
	enrols   *limit
	friends  *friends
	changes  *users

	stopping context.Context
	stop     context.CancelFunc
	mu       sync.Mutex     // between the start of a long request and Stop
	long     sync.WaitGroup // requests that end with Stop only
}

// New makes the API.
func New(opts Options) (*API, error) {
	if opts.LogWait == 0 {
		opts.LogWait = 10 * time.Second
	}
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 15 * time.Second
	}
	friends := newFriends(time.Now)
	a := &API{
		opts:     opts,
		refusals: newRefusals(),
		upgrades: newLimit(upgradesEach, upgradesAll, friends, time.Now),
		enrols:   newLimit(enrolsEach, enrolsAll, friends, time.Now),
		friends:  friends,
		changes:  newUsers(changesEach, time.Now),
	}
	a.stopping, a.stop = context.WithCancel(context.Background())
	var err error
	if a.handler, err = a.routes(); err != nil {
		return nil, err
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Stop ends the requests that would not end by themselves, streams and agents'
// connections, and waits for them; new ones are refused. Others go on.
func (a *API) Stop() {
	a.mu.Lock()
	a.stop()
	a.mu.Unlock()
	a.long.Wait()
}

// errStopping refuses what would be cut off at once.
var errStopping = errors.New("the relay is stopping: try again in some seconds")

// begin counts a long request in; its context ends with Stop, too.
func (a *API) begin(ctx context.Context) (_ context.Context, end func(), _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping.Err() != nil {
		return nil, nil, errStopping
	}
	a.long.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(a.stopping, cancel)
	return ctx, func() { detach(); cancel(); a.long.Done() }, nil
}

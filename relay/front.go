package relay

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/process"
	"github.com/trainrelay/trainrelay/internal/version"
	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/api"
	"github.com/trainrelay/trainrelay/relay/blobs"
	"github.com/trainrelay/trainrelay/relay/certs"
	"github.com/trainrelay/trainrelay/relay/tokens"
)

// FrontOptions of the HTTP side.
type FrontOptions struct {
	// Data is the folder of everything that the relay keeps; made if missing.
	Data string
	// Listener is the public port; the front closes it.
	Listener net.Listener
	// Hosts are the names and addresses by which users and agents reach the
	// relay; the first one is that of the client's configuration.
	Hosts []string
	// CertFile and KeyFile are the operator's own certificate; empty for one
	// that the relay makes.
	CertFile, KeyFile string
	MaxSnapshots      int64         // bytes of code; 0 for the default of blobs
	SnapshotRetention time.Duration // of code that no job uses; 0 for 30 days
	// MaxConnections bounds those that are open, the agents' included; others
	// wait. 0 for 20,000.
	MaxConnections int
	// Heartbeat is how often a silent stream shows that it lives, and its token
	// is looked at again; 0 for the default of api.
	Heartbeat time.Duration
	// Serving is told that requests are being answered; may be nil.
	Serving func()

	Log        zerolog.Logger
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
}

// Front is the HTTP side of a relay: one TLS port for users and agents.
type Front struct {
	opts      FrontOptions
	certs     *certs.Server
	first     *tokens.First
	snapshots *blobs.Store
}

// stopTimeout is how long requests may go on when the front stops.
const stopTimeout = 5 * time.Second

// NewFront reads what the front needs from the data folder and, at the first
// start, makes it: the certificate, the administrator's token, the client's
// configuration.
func NewFront(opts FrontOptions) (*Front, error) {
	if opts.SnapshotRetention == 0 {
		opts.SnapshotRetention = 30 * 24 * time.Hour
	}
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 20_000
	}
	if err := os.MkdirAll(opts.Data, 0o700); err != nil {
		return nil, fmt.Errorf("relay's data folder: %w", err)
	}
	f := &Front{opts: opts}
	var err error
	f.certs, err = certs.Load(certs.Options{
		Dir: filepath.Join(opts.Data, "tls"), Hosts: opts.Hosts, CertFile: opts.CertFile, KeyFile: opts.KeyFile,
	})
	if err != nil {
		return nil, err
	}
	if err := f.openTokens(); err != nil {
		return nil, err
	}
	f.snapshots, err = blobs.Open(blobs.Options{Dir: filepath.Join(opts.Data, "snapshots"), MaxBytes: opts.MaxSnapshots})
	if err != nil {
		return nil, err
	}
	promauto.With(opts.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trainrelay_snapshot_bytes", Help: "Bytes of code kept, compressed.",
	}, func() float64 { return float64(f.snapshots.Used()) })
	return f, nil
}

// ClientFile is the client's configuration with the administrator's token.
func (f *Front) ClientFile() string { return filepath.Join(f.opts.Data, "client.json") }

// AuthorityFile is the certificate that agents must trust; empty where the
// operator's own is used.
func (f *Front) AuthorityFile() string {
	if f.opts.CertFile != "" {
		return ""
	}
	return f.certs.AuthorityFile()
}

// Authority is what agents must trust, PEM; empty where the operator's own
// certificate is used.
func (f *Front) Authority() string { return f.certs.Authority() }

// URL is where the relay is reached.
func (f *Front) URL() string {
	host := "localhost"
	if len(f.opts.Hosts) > 0 {
		host = f.opts.Hosts[0]
	}
	_, port, err := net.SplitHostPort(f.opts.Listener.Addr().String())
	if err != nil || port == "443" {
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, port)
}

// openTokens makes the token at the first start and keeps the client's
// configuration in step with where the relay is. One that was moved away is not
// made again: its token is not known any more.
func (f *Front) openTokens() (err error) {
	now := client.Config{URL: f.URL(), CA: f.Authority()}
	if len(now.CA) > protocol.MaxCA {
		return fmt.Errorf("the relay's own authority: %s has %d bytes, agents take at most %d", f.certs.AuthorityFile(), len(now.CA), protocol.MaxCA)
	}
	f.first, err = tokens.Open(f.opts.Data, func(token string) error {
		now.Token = token
		return now.Save(f.ClientFile())
	})
	if err != nil || now.Token != "" {
		return err
	}
	old, err := client.LoadConfig(f.ClientFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if now.Token = old.Token; now == old {
		return nil
	}
	return now.Save(f.ClientFile())
}

// enrolment tells an agent that has joined which cluster it is of and what to
// trust, and notes the latter, so that no key ends that the agent has just learnt.
// It is signed with the key that the agent's token names.
func (f *Front) enrolment(ctx context.Context, r *Relay, e *protocol.Enrol, cluster, key string) ([]byte, error) {
	answer := &protocol.Enrolment{Nonce: e.Nonce, Cluster: cluster, Trust: r.Keys().Trust(f.Authority())}
	var ids []string
	for _, trusted := range answer.Trust.Keys {
		ids = append(ids, trusted.ID())
	}
	if err := r.Jobs().Trusts(ctx, cluster, ids); err != nil {
		return nil, err
	}
	return protocol.EncodeSigned(answer, r.Keys().For([]string{key}))
}

// Run serves r until ctx is done: it is what Options.Front asks for.
func (f *Front) Run(ctx context.Context, r *Relay) error {
	handler, err := f.handler(ctx, r)
	if err != nil {
		return errors.Join(err, f.opts.Listener.Close())
	}
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         f.certs.TLS(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          stdlog.New(serverLog{f.opts.Log}, "", 0),
	}
	var work sync.WaitGroup
	defer work.Wait()
	workCtx, stopWork := context.WithCancel(ctx)
	defer stopWork()
	work.Go(func() {
		f.certs.Run(workCtx,
			func(notAfter time.Time) {
				f.opts.Log.Info().Time("expires", notAfter).Msg("serving a new certificate")
			},
			func(err error) {
				f.opts.Log.Error().Err(err).Msg("cannot use the certificate's files; serving the old one on")
			})
	})
	work.Go(func() { f.prune(workCtx, r) })

	served := make(chan error, 1)
	// Strangers' connections must not take all memory.
	listener := netutil.LimitListener(f.opts.Listener, f.opts.MaxConnections)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	if f.opts.Serving != nil {
		f.opts.Serving()
	}
	select {
	case err := <-served:
		handler.Stop()
		return fmt.Errorf("serve %s: %w", f.opts.Listener.Addr(), err)
	case <-ctx.Done():
	}
	handler.Stop()
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(stopCtx); err != nil {
		f.opts.Log.Warn().Msg("requests were cut off: they did not end in time")
		_ = server.Close() // what is left is cut, that is the point
	}
	<-served
	return nil
}

// handler joins the API to the relay's rooms.
func (f *Front) handler(ctx context.Context, r *Relay) (*api.API, error) {
	health := new(process.Checks)
	health.Add("broker", r.Broker().Ready)
	health.Add("front", func(context.Context) error {
		if ctx.Err() != nil {
			return errors.New("the relay is stopping")
		}
		return nil
	})
	return api.New(api.Options{
		Jobs: apiJobs{r.Jobs()}, Setup: r.Jobs(), Logs: apiLogs{r.Logs()}, Snapshots: f.snapshots, Audit: apiAudit{r.Audit()},
		Keys:   apiKeys{r.Keys(), r.Jobs()},
		Tokens: apiTokens{r.Jobs()}, User: f.users(r.Jobs()), Named: f.certs.Names, Status: status,
		SigningKey: func() protocol.RelayKey { return r.Keys().Current().Public() },
		Enrolment: func(ctx context.Context, e *protocol.Enrol, cluster, key string) ([]byte, error) {
			return f.enrolment(ctx, r, e, cluster, key)
		},
		Broker:    r.Broker().WebsocketURL(),
		BrokerTLS: r.Broker().WebsocketTLS(),
		Health:    health.Handler(),
		Metrics:   promhttp.HandlerFor(f.opts.Gatherer, promhttp.HandlerOpts{}),
		Heartbeat: f.opts.Heartbeat,
		Version:   version.Short(),
		Log:       f.opts.Log.With().Str("room", "api").Logger(),
	})
}

// serverLog takes the HTTP server's own messages, such as of clients that
// break off the TLS handshake.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	l.log.Debug().Str("room", "front").Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

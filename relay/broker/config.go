package broker

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/trainrelay/trainrelay/protocol"
)

// headroom is what a message may be larger than protocol.MaxMessage on the
// relay's side: a dead letter carries the message and headers that explain it.
const headroom = 64 << 10

// requestTimeout is how long an agent's request may take: shorter than the
// threshold of the export, after which the answer would be lost.
const requestTimeout = 4 * time.Second

// Limits of each agent's connection. An agent may send a little more than a
// message, so that it is told so instead of being cut off.
const (
	maxSubscriptions = 32
	maxAgentPayload  = protocol.MaxMessage + headroom/2
)

// spare are connections of others than agents: of relays, which have one for
// each cluster, and of people that look.
const spare = 1000

// Defaults of Options.
const (
	defaultMaxStore  = 16 << 30
	defaultMaxAgents = 4000
)

//go:embed server.conf.tmpl
var serverText string

var serverTemplate = template.Must(template.New("server.conf").
	Funcs(template.FuncMap{"quote": strconv.Quote}).Option("missingkey=error").Parse(serverText))

// Server is what an external NATS server is configured with.
type Server struct {
	Name     string // empty for trainrelay
	Listen   string // host:port; empty for :4222
	StoreDir string // empty for /var/lib/nats
	// WebsocketListen is host:port for agents that come by the relay's front;
	// empty for none.
	WebsocketListen string
	// TLSCert and TLSKey are files on the server's machine. Without them the
	// server must listen on loopback only.
	TLSCert, TLSKey string
	MaxStore        int64 // 0 for 16 GiB
	MaxAgents       int   // 0 for 4000
}

// Config is the text of the server's configuration file: it knows the relay by
// these keys, and holds no secret.
func (s Server) Config(keys *Keys) (string, error) {
	if s.Name == "" {
		s.Name = "trainrelay"
	}
	if s.Listen == "" {
		s.Listen = ":4222"
	}
	if s.StoreDir == "" {
		s.StoreDir = "/var/lib/nats"
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return "", errors.New("a certificate and its key go together: give both --tls-cert and --tls-key")
	}
	for _, address := range []string{s.Listen, s.WebsocketListen} {
		if address != "" && s.TLSCert == "" && !onLoopback(address) {
			return "", fmt.Errorf("without TLS the server must not be reached from elsewhere than its machine, as it would at %s: give --tls-cert and --tls-key, or an address on 127.0.0.1", address)
		}
	}
	return s.text(keys, "STANDARD")
}

// text is the configuration, in which the relay's own connections are of one
// type.
func (s Server) text(keys *Keys, own string) (string, error) {
	if s.MaxStore == 0 {
		s.MaxStore = defaultMaxStore
	}
	if s.MaxAgents == 0 {
		s.MaxAgents = defaultMaxAgents
	}
	var text bytes.Buffer
	err := serverTemplate.Execute(&text, struct {
		Server
		MaxPayload, MaxConnections, MaxSubscriptions, MaxAgentPayload int
		System, Relay, Issuer, OwnConnections                         string
	}{
		s, protocol.MaxMessage + headroom, s.MaxAgents + spare, maxSubscriptions, maxAgentPayload,
		public(keys.system), public(keys.relay), public(keys.issuer), own,
	})
	if err != nil {
		return "", fmt.Errorf("write the broker's configuration: %w", err)
	}
	return strings.TrimLeft(text.String(), "\n"), nil
}

// embedded is the configuration of the server in this process.
func embedded(dir string, opts Options, keys *Keys) (*server.Options, error) {
	text, err := Server{
		Name: "relay", StoreDir: dir, MaxStore: opts.MaxStore, MaxAgents: opts.MaxAgents, WebsocketListen: "127.0.0.1:-1",
	}.text(keys, "IN_PROCESS")
	if err != nil {
		return nil, err
	}
	o := new(server.Options)
	if err := o.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("broker's configuration: %w", err)
	}
	o.DontListen, o.NoSigs, o.NoLog = true, true, true
	return o, nil
}

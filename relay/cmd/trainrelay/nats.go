package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/trainrelay/trainrelay/internal/cli"
	"github.com/trainrelay/trainrelay/relay/broker"
)

// external are the flags of "trainrelay serve" that name a NATS server.
type external struct {
	URL       []string `help:"NATS server to use instead of the embedded one; several of one cluster, separated by commas. See trainrelay nats config." placeholder:"tls://HOST[:PORT]"`
	Keys      string   `help:"Folder of the relay's keys there, as trainrelay nats config made it." placeholder:"DIR"`
	CAFile    string   `name:"ca-file" help:"Certificates in PEM to trust for it, instead of the system's." placeholder:"FILE"`
	Websocket string   `help:"Its WebSocket, to which agents that come by the relay's own port are forwarded." placeholder:"https://HOST:PORT"`
	Replicas  int      `help:"How many of its servers keep a copy of everything." default:"1" placeholder:"N"`
}

// options are those of the broker; nil for an embedded server.
func (e external) options() (*broker.External, error) {
	if len(e.URL) == 0 {
		if e.Keys != "" || e.CAFile != "" || e.Websocket != "" {
			return nil, errors.New("--nats-keys, --nats-ca-file and --nats-websocket are of use with --nats-url only")
		}
		return nil, nil
	}
	if e.Keys == "" {
		return nil, errors.New("--nats-url needs --nats-keys: the folder that `trainrelay nats config --keys DIR` made")
	}
	keys, err := broker.LoadKeys(e.Keys)
	if err != nil {
		return nil, err
	}
	config, err := trust("--nats-ca-file", e.CAFile)
	if err != nil {
		return nil, err
	}
	return &broker.External{URLs: e.URL, TLS: config, Keys: keys, Websocket: e.Websocket, Replicas: e.Replicas}, nil
}

// trust is the configuration of TLS that trusts the certificates of a file, or
// the system's where none is named.
func trust(flag, file string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return config, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM", flag, file)
	}
	return config, nil
}

// NATS are the commands "trainrelay nats …".
type NATS struct {
	Config natsConfig `cmd:"" help:"Print the configuration of a NATS server for the relay, and make the relay's keys."`
}

type natsConfig struct {
	Keys            string `required:"" help:"Folder of the relay's keys; those that are missing are made. The relay needs it, the NATS server does not." placeholder:"DIR"`
	ServerName      string `help:"Name of the server, one for each of a cluster." default:"trainrelay" placeholder:"NAME"`
	StoreDir        string `help:"Folder of the server's files." default:"/var/lib/nats" placeholder:"DIR"`
	MaxStore        int64  `help:"Bytes of the server's files." default:"17179869184" placeholder:"BYTES"`
	MaxAgents       int    `help:"Connections of agents to the server." default:"4000" placeholder:"N"`
	Listen          string `help:"Address for the relay, and for agents that connect directly." default:":4222" placeholder:"HOST:PORT"`
	WebsocketListen string `help:"Address for agents that come by the relay's own port; none by default." placeholder:"HOST:PORT"`
	TLSCert         string `name:"tls-cert" help:"Certificate chain in PEM, on the server's machine." placeholder:"FILE"`
	TLSKey          string `name:"tls-key" help:"Its key in PEM, likewise." placeholder:"FILE"`
}

// Run prints the configuration.
func (c *natsConfig) Run(stdio cli.IO) error {
	keys, err := broker.MakeKeys(c.Keys)
	if err != nil {
		return err
	}
	text, err := broker.Server{
		Name: c.ServerName, Listen: c.Listen, StoreDir: c.StoreDir, WebsocketListen: c.WebsocketListen,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, MaxStore: c.MaxStore, MaxAgents: c.MaxAgents,
	}.Config(keys)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stdio.Out, text)
	return err
}

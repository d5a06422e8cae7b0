package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
)

// check says what is wrong with the options.
func (e *External) check() error {
	if len(e.URLs) == 0 {
		return errors.New("external NATS: no URL of a server given")
	}
	if e.Keys == nil {
		return errors.New("external NATS: no keys given: make them with `trainrelay nats config --keys DIR`")
	}
	if e.Replicas < 0 || e.Replicas > 5 {
		return fmt.Errorf("external NATS: %d replicas: 1 to 5 are possible, 3 are usual", e.Replicas)
	}
	for _, raw := range e.URLs {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "":
			return errors.New("external NATS: the URL of a server is not one; tls://HOST[:PORT] is expected")
		case u.User != nil:
			return errors.New("external NATS: no user or password belongs into the URL of a server; the relay has its keys")
		case u.Scheme == "tls", u.Scheme == "nats" && onLoopback(u.Host):
		case u.Scheme == "nats":
			return fmt.Errorf("external NATS: %s would be reached without TLS: use tls://", u.Host)
		default:
			return fmt.Errorf("external NATS: scheme %q of a server's URL is none of tls, nats", u.Scheme)
		}
	}
	if e.Websocket == "" {
		return nil
	}
	u, err := url.Parse(e.Websocket)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return errors.New("external NATS: the URL of the server's WebSocket is not one; https://HOST[:PORT] is expected")
	case u.Scheme == "https", u.Scheme == "http" && onLoopback(u.Host):
		return nil
	}
	return fmt.Errorf("external NATS: the WebSocket at %s would be reached without TLS: use https://", u.Host)
}

// onLoopback reports whether an address, with or without port, is of this
// machine for sure.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// options of each connection to an external server.
func (e *External) options() []nats.Option {
	options := []nats.Option{
		nats.Timeout(10 * time.Second),
		nats.PingInterval(20 * time.Second), nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // what cannot be sent now fails now
	}
	if e.TLS != nil {
		// Not nats.Secure, which would want TLS of a server on loopback, too.
		options = append(options, func(o *nats.Options) error {
			o.TLSConfig = e.TLS.Clone()
			return nil
		})
	}
	return options
}

// connectExternal opens the relay's own connections to an external server, and
// checks what can be seen from them.
func (b *Broker) connectExternal(ctx context.Context) error {
	e := b.opts.External
	servers := strings.Join(e.URLs, ",")
	log := ofStrangers(b.opts.Log) // there is a connection for each cluster
	own := append(e.options(),
		nats.DisconnectErrHandler(func(c *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Str("connection", c.Opts.Name).Msg("lost the connection to the NATS server; trying again")
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info().Str("connection", c.Opts.Name).Msg("connected to the NATS server again")
		}))
	if err := b.connect(servers, own, explain); err != nil {
		return err
	}
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("external NATS: JetStream: %w: enable it in the server and in its account RELAY, as in the output of `trainrelay nats config`", err)
	}
	return b.checkServers(ctx)
}

// explain says what to do about a connection that did not come up.
func explain(what string, err error) error {
	fix := "is the server up, and does --nats-url name it?"
	switch {
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(err.Error(), "expected 'PONG'"): // a server that asks about strangers
		fix = "the server does not know the relay's key: configure it with the output of `trainrelay nats config --keys DIR`, of the same folder as --nats-keys"
	case strings.Contains(err.Error(), "x509:"):
		fix = "the server's certificate is not trusted: name its authority with --nats-ca-file"
	case errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		fix = "one side wants TLS and the other does not: tls:// needs a certificate in the server's configuration"
	}
	return fmt.Errorf("external NATS: %s: %w: %s", what, err, fix)
}

// checkServers looks at the settings of all servers.
func (b *Broker) checkServers(ctx context.Context) error {
	servers := 0
	var found error
	err := b.askServers(ctx, subjectVarz, nil, func(data []byte) {
		var answer struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				MaxPayload int `json:"max_payload"`
				JetStream  struct {
					Config *struct {
						SyncAlways bool `json:"sync_always"`
					} `json:"config"`
				} `json:"jetstream"`
			} `json:"data"`
		}
		if json.Unmarshal(data, &answer) != nil {
			return
		}
		servers++
		fault := func(what, fix string) {
			found = errors.Join(found, fmt.Errorf("external NATS: server %s %s: %s, as in the output of `trainrelay nats config`", answer.Server.Name, what, fix))
		}
		if need := protocol.MaxMessage + headroom; answer.Data.MaxPayload < need {
			fault(fmt.Sprintf("takes messages of %d bytes at most", answer.Data.MaxPayload), fmt.Sprintf("set max_payload to %d or more", need))
		}
		if js := answer.Data.JetStream.Config; js != nil && !js.SyncAlways {
			fault("acknowledges what is not on disk yet", "set sync_interval: always in its block jetstream")
		}
	})
	if err == nil && servers == 0 {
		err = errors.New("external NATS: no server answers in the system's account: set system_account: SYS, as in the output of `trainrelay nats config`")
	}
	return errors.Join(err, found)
}

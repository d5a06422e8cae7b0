package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
)

// checkTimeout bounds each step of the check.
const checkTimeout = 5 * time.Second

// checkAsAgent looks at an external server as an agent would: whether it asks
// the relay who may connect, joins the accounts, and keeps agents to their own.
func (b *Broker) checkAsAgent() error {
	fault := func(what string, err error, fix string) error {
		if err != nil {
			what = fmt.Sprintf("%s: %v", what, err)
		}
		return fmt.Errorf("external NATS: %s: %s, as in the output of `trainrelay nats config`", what, fix)
	}
	denied := make(chan error, 8)
	e := b.opts.External
	asked := b.callout.asked.Load()
	agent, err := nats.Connect(strings.Join(e.URLs, ","), append(e.options(),
		nats.Name("relay's check"), nats.NoReconnect(), nats.CustomInboxPrefix(protocol.InboxPrefix(checkCluster)),
		nats.Nkey(public(b.keys.check), b.keys.check.Sign),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case denied <- err:
			default:
			}
		}))...)
	switch {
	case err != nil && b.callout.asked.Load() == asked:
		return fault("it does not ask the relay who may connect", err, "set auth_callout with account RELAY in its block authorization")
	case err != nil:
		return fault("it does not believe the relay's word on who may connect", err, "set the issuer of auth_callout to "+public(b.keys.issuer)+" and have an account AGENTS")
	}
	defer agent.Close()

	word := rand.Text()
	nudges, err := agent.SubscribeSync(protocol.NudgeSubject(checkCluster, word))
	if err != nil {
		return fault("subscribe as an agent", err, "configure it")
	}
	if _, err := agent.Request(protocol.UpSubject(checkCluster, protocol.VerbSync), []byte(word), checkTimeout); err != nil {
		return fault("an agent's request is not answered", err, `account RELAY exports the service "up.*.*" to AGENTS, which imports it`)
	}
	if _, err := nudges.NextMsg(checkTimeout); err != nil {
		return fault("an agent does not hear the relay", err, `account RELAY exports the stream "nudge.*.*" to AGENTS, which imports it`)
	}
	for _, try := range []func() error{
		func() error { return agent.Publish("up.other.sync", nil) },
		func() error { _, err := agent.SubscribeSync("nudge.other.*"); return err },
	} {
		if err := try(); err != nil {
			return fault("try as an agent what is another's", err, "configure it")
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				return fault("try as an agent what is another's", err, "configure it")
			}
		case <-time.After(checkTimeout):
			return fault("an agent may use what is another's", nil, "remove permissions and mappings of its own")
		}
	}
	return nil
}

// answerCheck answers the request of a relay's check.
func (b *Broker) answerCheck(m *nats.Msg) {
	b.respond(m, []byte("checked"))
	if word := string(m.Data); word != "" && !strings.ContainsAny(word, ".*> \t\r\n") {
		if err := b.Nudge(checkCluster, word); err != nil {
			b.opts.Log.Warn().Err(err).Msg("cannot answer a relay's check of the NATS server")
		}
	}
}

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

// scriptedAgent stands in for the agent of a cluster, on a real connection,
// with the credentials of the Secret that the command line has written.
type scriptedAgent struct {
	cluster string
	conn    *bus.Conn
	nudged  chan struct{}
	session string
	syncs   int
	term    uint64
	seq     uint64
}

// agentCommand plays an agent's part. "complete" and "fail" take the next job of
// the cluster to that end, "start" only to Running, and "stop", after it, to
// Canceled once the relay asks for it.
func agentCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: agent CLUSTER complete|fail|start|stop")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := connectAgent(ctx, ts, args[0])
	ts.Check(err)
	defer a.conn.Close()
	m := machineOf(ts)
	if args[1] == "stop" {
		ts.Check(a.stop(ctx, m.started))
		return
	}
	m.started, err = a.run(ctx, args[1])
	ts.Check(err)
}

func connectAgent(ctx context.Context, ts *testscript.TestScript, cluster string) (*scriptedAgent, error) {
	var secret struct {
		Data map[string]string `yaml:"stringData"`
	}
	text, err := os.ReadFile(ts.MkAbs("secret.yaml"))
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &secret); err != nil {
		return nil, err
	}
	key, err := nkeys.FromSeed([]byte(secret.Data["nkey-seed"]))
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(secret.Data["relay-ca.crt"])) {
		return nil, fmt.Errorf("no CA in the Secret")
	}
	cfg, err := machineOf(ts).config()
	if err != nil {
		return nil, err
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		return nil, err
	}
	a := &scriptedAgent{cluster: cluster, nudged: make(chan struct{}, 1), session: rand.Text()}
	a.conn, err = bus.Connect(ctx, bus.Options{
		URL: strings.Replace(cfg.URL, "https", "wss", 1), Dialer: dialer, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Nkey: public, Sign: key.Sign, InboxPrefix: protocol.InboxPrefix(cluster), Log: zerolog.Nop(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := a.conn.State(); err != nil {
		a.conn.Close()
		return nil, err
	}
	_, err = a.conn.Subscribe(protocol.NudgeSubject(cluster, a.session), func() {
		select {
		case a.nudged <- struct{}{}:
		default:
		}
	})
	return a, err
}

// ask sends a request and decodes the answer.
func ask[Q, A protocol.Message](ctx context.Context, a *scriptedAgent, verb string, q Q, answer A) error {
	data, err := protocol.Encode(q)
	if err != nil {
		return err
	}
	reply, err := a.conn.Request(ctx, protocol.UpSubject(a.cluster, verb), data)
	if err != nil {
		return err
	}
	return protocol.Decode(reply, answer)
}

func (a *scriptedAgent) sync(ctx context.Context, s protocol.Sync) (*protocol.SyncReply, error) {
	a.syncs++
	s.Nudge = a.session
	s.Nonce, s.Session, s.Term = fmt.Sprintf("nonce-%016d", a.syncs), a.session, a.term
	reply := new(protocol.SyncReply)
	err := ask(ctx, a, protocol.VerbSync, &s, reply)
	a.term = reply.Term
	return reply, err
}

// run takes the next start and plays it.
func (a *scriptedAgent) run(ctx context.Context, outcome string) (protocol.Start, error) {
	if _, err := a.sync(ctx, protocol.Sync{Full: true, Last: true}); err != nil {
		return protocol.Start{}, err
	}
	start, err := a.claim(ctx)
	if err != nil {
		return start, err
	}
	if err := a.tell(ctx, protocol.Event{Ref: start.Ref(), State: protocol.Running, Node: "node1"}); err != nil || outcome == "start" {
		return start, err
	}
	end := protocol.Event{State: protocol.Completed}
	if outcome == "fail" {
		code := 3
		end.State, end.ExitCode, end.Reason = protocol.Failed, &code, protocol.NewReason(protocol.ExitCode, "exit code 3")
	}
	return start, a.end(ctx, start, end)
}

// claim waits for a start.
func (a *scriptedAgent) claim(ctx context.Context) (protocol.Start, error) {
	for {
		reply, err := a.sync(ctx, protocol.Sync{Room: []protocol.Room{{Compute: "onprem", Free: 1}}})
		if err != nil {
			return protocol.Start{}, err
		}
		if len(reply.Starts) > 0 {
			return reply.Starts[0], nil
		}
		if err := a.wait(ctx); err != nil {
			return protocol.Start{}, err
		}
	}
}

// stop ends the attempt that an earlier agent has started, once asked to.
func (a *scriptedAgent) stop(ctx context.Context, start protocol.Start) error {
	held := []protocol.Ref{start.Ref()}
	if _, err := a.sync(ctx, protocol.Sync{Full: true, Last: true, Held: held}); err != nil {
		return err
	}
	for asked := false; !asked; {
		reply, err := a.sync(ctx, protocol.Sync{Held: held})
		if err != nil {
			return err
		}
		asked = slices.ContainsFunc(reply.Cancels, func(c protocol.Cancel) bool { return c.Ref == start.Ref() })
		if !asked {
			if err := a.wait(ctx); err != nil {
				return err
			}
		}
	}
	return a.end(ctx, start, protocol.Event{State: protocol.Canceled})
}

// end sends a line of output of each rank, and then the end.
func (a *scriptedAgent) end(ctx context.Context, start protocol.Start, end protocol.Event) error {
	for rank := range start.Job.Instances {
		chunk := &protocol.LogChunk{Ref: start.Ref(), Rank: rank, Data: fmt.Appendf(nil, "rank %d runs: %s\n", rank, start.Job.Command),
			To: protocol.LogPosition{Time: time.Now().UTC(), Lines: 1}, EOF: true}
		if err := ask(ctx, a, protocol.VerbLog, chunk, new(protocol.LogReply)); err != nil {
			return err
		}
	}
	end.Ref = start.Ref()
	return a.tell(ctx, end)
}

func (a *scriptedAgent) wait(ctx context.Context) error {
	select {
	case <-a.nudged:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *scriptedAgent) tell(ctx context.Context, e protocol.Event) error {
	a.seq++
	e.Version, e.Time = protocol.Version{Term: a.term, Seq: a.seq}, time.Now().UTC()
	return ask(ctx, a, protocol.VerbEvent, &protocol.EventBatch{Events: []protocol.Event{e}}, new(protocol.EventReply))
}

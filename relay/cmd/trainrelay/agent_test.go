package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// scriptedAgent stands in for the agent of a cluster, on a real connection,
// with keys that joined by a token of the command line.
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
// Canceled once the relay asks for it; "join" only joins, with the token in the
// file token, and "refused" is refused that; "lead" waits for that file, joins,
// and syncs; "installed" and "broken" report so of the extension, as it is
// wanted. The others join first where the file is there.
func agentCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: agent CLUSTER complete|fail|start|stop|join|refused|lead|installed|broken")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch args[1] {
	case "join":
		_, err := machineOf(ts).join(ctx, ts)
		ts.Check(err)
		return
	case "lead":
		for !exists(ts.MkAbs("token")) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	case "refused":
		_, err := machineOf(ts).join(ctx, ts)
		if err == nil {
			ts.Fatalf("the token let an agent join")
		}
		_, err = fmt.Fprintln(ts.Stdout(), err)
		ts.Check(err)
		return
	}
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

// join uses the join token in the file token, once; the keys stay for the
// agents of the script that follow.
func (m *machine) join(ctx context.Context, ts *testscript.TestScript) (*testkit.Joined, error) {
	file := ts.MkAbs("token")
	text, err := os.ReadFile(file)
	if err != nil {
		if m.joined != nil {
			return m.joined, nil
		}
		return nil, err
	}
	cfg, err := m.config()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: m.trust(cfg)}
	defer transport.CloseIdleConnections()
	joined, err := testkit.Join(ctx, &http.Client{Transport: transport}, cfg.URL, string(text))
	if err != nil {
		return nil, err
	}
	m.joined = joined
	return joined, os.Rename(file, file+".used")
}

// trust is what a client of the relay trusts.
func (m *machine) trust(cfg client.Config) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cfg.CA))
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func connectAgent(ctx context.Context, ts *testscript.TestScript, cluster string) (*scriptedAgent, error) {
	m := machineOf(ts)
	joined, err := m.join(ctx, ts)
	if err != nil {
		return nil, err
	}
	public, err := joined.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	cfg, err := m.config()
	if err != nil {
		return nil, err
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		return nil, err
	}
	a := &scriptedAgent{cluster: cluster, nudged: make(chan struct{}, 1), session: rand.Text()}
	a.conn, err = bus.Connect(ctx, bus.Options{
		URL: strings.Replace(cfg.URL, "https", "wss", 1), Dialer: dialer, TLS: m.trust(cfg),
		Nkey: public, Sign: joined.Key.Sign, InboxPrefix: protocol.InboxPrefix(cluster), Log: zerolog.Nop(),
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
	switch outcome {
	case "lead":
		return protocol.Start{}, nil
	case "installed", "broken":
		return protocol.Start{}, a.look(ctx, outcome)
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

// look reports of the extension that is wanted what is said to be found.
func (a *scriptedAgent) look(ctx context.Context, outcome string) error {
	reply, err := a.sync(ctx, protocol.Sync{})
	if err != nil {
		return err
	}
	if reply.Extension == nil {
		return errors.New("no extension is wanted")
	}
	found := &protocol.ExtensionFound{Revision: reply.Extension.Revision, State: protocol.Installed, Components: []protocol.Component{
		{Name: "trainrelay-agent", Ready: true, Detail: "1 of 1 pods are ready"},
	}}
	if outcome == "broken" {
		found.State, found.Reason = protocol.InstallFailed, "csi-blob-node: ImagePullBackOff: no such image"
		found.Components = append(found.Components, protocol.Component{Name: "csi-blob-node", Detail: "ImagePullBackOff: no such image"})
	}
	_, err = a.sync(ctx, protocol.Sync{Found: &protocol.Found{Time: time.Now().UTC(), Extension: found}})
	return err
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

package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// complaints are what the server says to an agent.
func complaints(conn *nats.Conn) <-chan error {
	said := make(chan error, 64)
	conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err })
	return said
}

func wantComplaint(t *testing.T, said <-chan error, want string) {
	t.Helper()
	select {
	case err := <-said:
		if !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("the server says %v, want %q", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the server says nothing, want %q", want)
	}
}

// TestPayloadOfAnAgent: it may send little more than a message.
func TestPayloadOfAnAgent(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	serveWith(t, b, func(context.Context, string, string, []byte) ([]byte, error) { return []byte("taken"), nil })
	conn := agentOf(t, b, kp)
	closed := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if m, err := conn.Request("up.c.sync", make([]byte, maxAgentPayload), 10*time.Second); err != nil || string(m.Data) != "taken" {
		t.Fatal(err)
	}
	err := conn.Publish("up.c.sync", make([]byte, maxAgentPayload+1))
	if errors.Is(err, nats.ErrMaxPayload) {
		return // the client knows the limit
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("an agent that sends too much is still there")
	}
}

// TestSubscriptionsOfAnAgent: each of its connections has so many.
func TestSubscriptionsOfAnAgent(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	for range 2 {
		conn := agentOf(t, b, kp)
		said := complaints(conn)
		for range maxSubscriptions + 1 {
			if _, err := conn.SubscribeSync(conn.NewRespInbox()); err != nil {
				t.Fatal(err)
			}
		}
		wantComplaint(t, said, "maximum subscriptions exceeded")
	}
}

// TestConnectionsOfAKey: one key has so many at a time.
func TestConnectionsOfAKey(t *testing.T) {
	b := startWith(t, Options{Dir: t.TempDir(), MaxConnections: 3})
	kp, public := admitted(t, b)
	var open []*nats.Conn
	for range 3 {
		open = append(open, agentOf(t, b, kp))
	}
	address := strings.Replace(b.WebsocketURL(), "http", "ws", 1)
	if conn, err := nats.Connect(address, nats.Nkey(public, kp.Sign), nats.NoReconnect()); err == nil {
		conn.Close()
		t.Error("a fourth connection was let in")
	}
	open[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := nats.Connect(address, nats.Nkey(public, kp.Sign), nats.NoReconnect())
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after one has ended: %v", err)
		}
	}
}

// TestRequestsOfACluster: one that asks too often is told so for now, and
// others are answered.
func TestRequestsOfACluster(t *testing.T) {
	b := startWith(t, Options{Dir: t.TempDir(), MaxRequests: 5})
	kp, _ := admitted(t, b)
	serveWith(t, b, func(context.Context, string, string, []byte) ([]byte, error) { return []byte("taken"), nil })
	conn := agentOf(t, b, kp)
	for range 1000 {
		m, err := conn.Request("up.c.sync", nil, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) == "taken" {
			continue
		}
		refused := new(protocol.Refusal)
		if err := protocol.Decode(m.Data, new(protocol.SyncReply)); !errors.As(err, &refused) || !refused.Temporary || !strings.Contains(refused.Message, "more than 5 times in a second") {
			t.Fatalf("refused with %v", err)
		}
		if err := b.quota.take("another", 0); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("a thousand requests at once were answered")
}

// TestStrangersInTheLog: whoever tries keys fills no disk.
func TestStrangersInTheLog(t *testing.T) {
	var lines strings.Builder
	log := newServerLog(testLog(&lines))
	for range 1000 {
		log.Errorf("%s - authentication error - Nkey %q", "127.0.0.1:1 - wid:1", "UA")
	}
	log.Errorf("the disk is full")
	if n := strings.Count(lines.String(), "authentication error"); n == 0 || n > 10 || strings.Contains(lines.String(), `"error"`) != true {
		t.Errorf("%d lines of a thousand tries:\n%s", n, lines.String())
	}
	if strings.Contains(lines.String(), `"level":"error","message":"127`) {
		t.Error("a stranger's try is an error of the relay")
	}
}

func testLog(w *strings.Builder) zerolog.Logger { return zerolog.New(w) }

// TestWhoCameAndWent: connections that end as soon as they are there do not
// count on, whatever the order in which the server's word is worked on.
func TestWhoCameAndWent(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	var agents sync.WaitGroup
	for range 8 {
		agents.Go(func() {
			for range 40 {
				agentOf(t, b, kp).Close()
			}
		})
	}
	agents.Wait()
	for deadline := time.Now().Add(10 * time.Second); b.callout.connections.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections count, %d are there", b.callout.connections.count(), b.agents())
		}
	}
}

package relay

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/broker"
)

func TestDeadLetters(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "c", "one", addCluster(t, r, "c"))
	letters := []string{"no json", `{"v":1,"kind":"log","body":{}}`, `{"v":9,"kind":"sync","body":{}}`, strings.Repeat("x", protocol.MaxMessage+1)}
	for _, letter := range letters {
		m, err := a.conn.Request(protocol.UpSubject("c", protocol.VerbSync), []byte(letter), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if refusal := refused(t, protocol.Decode(m.Data, new(protocol.SyncReply))); refusal.Temporary || refusal.Message == "" {
			t.Errorf("refusal %+v", refusal)
		}
	}
	stream, err := r.Broker().JetStream().Stream(t.Context(), broker.DeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	for i, letter := range letters {
		m, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		// Of a long message the beginning is kept.
		if string(m.Data) != letter[:min(len(letter), 8<<10)] || m.Header.Get("Reason") == "" || m.Header.Get("Subject") != "up.c.sync" {
			t.Errorf("dead letter %d: %v, %d bytes", i, m.Header, len(m.Data))
		}
	}
	a.join() // the relay lives on
}

// TestClustersAreApart: a cluster's key opens its own subjects only.
func TestClustersAreApart(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	a := lead(t, r, "a", "one", addCluster(t, r, "a"))
	b := lead(t, r, "b", "one", addCluster(t, r, "b"))
	a.join()
	b.join()
	submit(t, r, sampleJob("of-b", "b"))
	wantStarts(t, b.room(1), attempt("of-b", 1))

	denied := make(chan error, 16)
	a.conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	for _, subject := range []string{"up.b.sync", "up.b.event", "nudge.a", "nudge.b", "_INBOX_b.guess", "$JS.API.STREAM.INFO.KV_JOBS", "$KV.JOBS.of-b.status", "dead.x", "log.of-b.1.0", "$SYS.REQ.SERVER.PING"} {
		if err := a.conn.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publish to %s: %v", subject, err)
		}
	}
	for _, subject := range []string{"up.>", "up.b.*", "nudge.*", "nudge.b", "_INBOX_b.>", ">", "$SYS.>", "_R_.>"} {
		if _, err := a.conn.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe to %s: %v", subject, err)
		}
	}
	// Through its own subjects it says nothing of b's attempts either.
	if results := a.tell(a.event(attempt("of-b", 1), protocol.Failed)); results[0].Outcome != protocol.Unknown {
		t.Errorf("a's word on b's attempt: %s", results[0].Outcome)
	}
	if reply := a.sync(protocol.Sync{Room: []protocol.Room{{Compute: "b", Free: 5}}, Held: []protocol.Ref{attempt("of-b", 1)}}); len(reply.Starts)+len(reply.Cancels) != 0 {
		t.Errorf("a was answered %+v for b's compute", reply)
	}
	reply := new(protocol.LogReply)
	if err := ask(a, protocol.VerbLog, &protocol.LogChunk{Ref: attempt("of-b", 1), Data: []byte("x")}, reply); err != nil || !reply.Unknown {
		t.Errorf("a's output for b's attempt: %+v, %v", reply, err)
	}
	wantState(t, r, "of-b", protocol.Queued, "")
}

// connect tries to connect until the server says yes or no: a connection that
// it closes may break before its words are read.
func connect(url string, option nats.Option) error {
	for {
		conn, err := nats.Connect(url, option)
		if broken := new(net.OpError); errors.As(err, &broken) {
			continue
		}
		if err == nil {
			conn.Close()
		}
		return err
	}
}

func TestWhoMayConnect(t *testing.T) {
	r := start(t, Options{Data: t.TempDir()})
	url := strings.Replace(r.Broker().WebsocketURL(), "http", "ws", 1)
	stranger, unknown := newKey(t)
	key := addCluster(t, r, "c")
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]nats.Option{
		"anonymous":              nats.Name("x"),
		"password":               nats.UserInfo("relay", "relay"),
		"token":                  nats.Token("token"),
		"a stranger's key":       nats.Nkey(unknown, stranger.Sign),
		"a key without its seed": nats.Nkey(public, stranger.Sign),
	} {
		if err := connect(url, option); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}

	a := lead(t, r, "c", "one", key)
	a.join()
	closed := make(chan struct{})
	a.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if _, err := r.Jobs().Disconnect(t.Context(), "c", "admin", false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection of a cluster that was disconnected is still open")
	}
	if err := connect(url, nats.Nkey(public, key.Sign)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the key of a cluster that was disconnected: %v", err)
	}
	// A new key opens the same cluster.
	next, _ := newKey(t)
	enrol(t, r, "c", next)
	lead(t, r, "c", "two", next).join()
}

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

func TestDeadLetters(t *testing.T) { everyBroker(t, testDeadLetters) }

func testDeadLetters(t *testing.T, opts Options) {
	r := start(t, opts)
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

	// However many there are, few are kept.
	for range 40 {
		if _, err := a.conn.Request(protocol.UpSubject("c", protocol.VerbSync), []byte("no json"), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.LastSeq > 12 {
		t.Errorf("%d dead letters were written", info.State.LastSeq)
	}
}

// connect tries to connect until the server says yes or no: a connection that
// it closes may break before its words are read.
func connect(r *running, options ...nats.Option) error {
	for {
		conn, err := nats.Connect(r.natsURL(), append(options, r.trustNATS())...)
		if broken := new(net.OpError); errors.As(err, &broken) {
			continue
		}
		if err == nil {
			conn.Close()
		}
		return err
	}
}

func TestWhoMayConnect(t *testing.T) { everyBroker(t, testWhoMayConnect) }

func testWhoMayConnect(t *testing.T, opts Options) {
	r := start(t, opts)
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
		if err := connect(r, option); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}

	a := lead(t, r, "c", "one", key)
	a.join()
	closed := make(chan struct{})
	a.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	began := time.Now()
	if _, err := r.Jobs().Disconnect(t.Context(), "c", "admin", false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
		t.Logf("cut %v after the cluster was disconnected", time.Since(began))
	case <-time.After(10 * time.Second):
		t.Fatal("the connection of a cluster that was disconnected is still open")
	}
	if err := connect(r, nats.Nkey(public, key.Sign)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the key of a cluster that was disconnected: %v", err)
	}
	// A new key opens the same cluster.
	next, _ := newKey(t)
	enrol(t, r, "c", next)
	lead(t, r, "c", "two", next).join()
}

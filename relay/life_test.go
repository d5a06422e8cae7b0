package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/broker"
)

// lasting connects an agent as deployed ones are: for as long as it lives.
func (s *served) lasting(t *testing.T, cluster string, kp nkeys.KeyPair, ups *atomic.Int64) *bus.Conn {
	t.Helper()
	url := strings.Replace(s.config.URL, "https", "wss", 1)
	trust := s.trust()
	if s.opts.NATS != nil {
		url, trust = s.natsURL(), s.opts.NATS.TLS
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), bus.Options{
		URL: url, Dialer: dialer, TLS: trust, Nkey: public, Sign: kp.Sign, InboxPrefix: protocol.InboxPrefix(cluster),
		MaxDelay: 100 * time.Millisecond, Log: zerolog.Nop(),
		OnState: func(up bool, _ error) {
			if up {
				ups.Add(1)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// TestRenewal: a connection lives for so long only, and its end loses nothing
// and doubles nothing of what is under way.
func TestRenewal(t *testing.T) { everyBroker(t, testRenewal) }

func testRenewal(t *testing.T, opts Options) {
	opts.AgentLife = 2 * time.Second
	s := serveWith(t, opts)
	key := s.setUp(t, "c")
	var ups atomic.Int64
	conn := s.lasting(t, "c", key, &ups)
	a := s.leadFront(t, "c", key)
	submit(t, s.running, sampleJob("iris", "c"))
	ref := attempt("iris", 1)
	wantStarts(t, a.room(1), ref)
	a.observe(ref, protocol.Running)

	failed, lines := 0, uint32(0)
	for deadline := time.Now().Add(time.Minute); ups.Load() < 3; {
		chunk := &protocol.LogChunk{Ref: ref, From: at(lines), To: at(lines + 1), Data: fmt.Appendf(nil, "line %d\n", lines)}
		data, err := protocol.Encode(chunk)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		answer, err := conn.Request(ctx, protocol.UpSubject("c", protocol.VerbLog), data)
		cancel()
		if time.Now().After(deadline) {
			t.Fatalf("after %d connections: %v", ups.Load(), err)
		}
		if err != nil { // while it reconnects
			failed++
			time.Sleep(time.Millisecond)
			continue
		}
		reply := new(protocol.LogReply)
		refusal := new(protocol.Refusal)
		if err := protocol.Decode(answer, reply); errors.As(err, &refusal) && refusal.Temporary {
			continue // it asks as often as it can
		} else if err != nil {
			t.Fatal(err)
		}
		if lines = reply.At.Lines; !reply.Taken && reply.At != at(lines) {
			t.Fatalf("the place is %v", reply.At)
		}
	}
	var got strings.Builder
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	for chunk, err := range s.Logs().Follow(t.Context(), "iris", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got.Write(chunk.Text)
		if got.Len() >= want.Len() {
			break
		}
	}
	if got.String() != want.String() {
		t.Errorf("of %d lines sent, these are kept:\n%s", lines, got.String())
	}
	t.Logf("%d lines over %d connections; %d requests failed at once and were repeated", lines, ups.Load(), failed)
}

// TestStopUnderChurn: agents that come and go while the relay stops do not
// bring it down.
func TestStopUnderChurn(t *testing.T) {
	s := serve(t, t.TempDir())
	key := s.setUp(t, "c")
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s.dialFront(t, "c", key)
	stopped := make(chan struct{})
	var agents sync.WaitGroup
	for range 8 {
		agents.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				conn, err := nats.Connect(strings.Replace(s.config.URL, "https", "wss", 1), nats.ProxyPath("/nats"), nats.Secure(s.trust()),
					nats.Nkey(public, key.Sign), nats.Timeout(time.Second), nats.NoReconnect())
				if err == nil {
					conn.Close()
				}
			}
		})
	}
	s.stop()
	close(stopped)
	agents.Wait()
}

// TestTwoRelays: two relays on one NATS server share the agents: each request
// is answered by one of them, and a cluster that one of them disconnects is cut
// whichever let it in.
func TestTwoRelays(t *testing.T) {
	site := newNATSSite(t)
	site.start(site.config(broker.Server{}))
	data := t.TempDir()
	one := start(t, Options{Data: data, NATS: site.external()})
	key := addCluster(t, one, "c")
	two := start(t, Options{Data: data, NATS: site.external()})
	a := lead(t, one, "c", "one", key)
	for range 50 { // whichever answers first may want to hear all that the cluster holds
		if reply := a.sync(protocol.Sync{Full: true, Last: true}); !reply.NeedFull {
			break
		}
	}
	closed := make(chan struct{})
	a.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	began := time.Now()
	if _, err := two.Jobs().Disconnect(t.Context(), "c", "admin", false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
		t.Logf("cut by the other relay within %v", time.Since(began))
	case <-time.After(20 * time.Second):
		t.Fatal("the connection is still open")
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, known := one.Jobs().ClusterOf(public); !known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other relay did not learn that the cluster is disconnected")
		}
	}
	if err := connect(one, nats.Nkey(public, key.Sign)); err == nil {
		t.Error("the key still opens")
	}
}

package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/trainrelay/trainrelay/protocol"
)

// flooded is a broker with two clusters, of which a floods.
type flooded struct {
	*Broker
	t    *testing.T
	keys map[string]nkeys.KeyPair
	sent atomic.Int64
}

func newFlooded(t *testing.T, r prometheus.Registerer) *flooded {
	t.Helper()
	f := &flooded{Broker: startWith(t, Options{Dir: t.TempDir(), Registerer: r}), t: t, keys: map[string]nkeys.KeyPair{}}
	clusters := map[string]string{}
	for _, cluster := range []string{"a", "b"} {
		key, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		f.keys[cluster], clusters[public(key)] = key, cluster
	}
	serveWith(t, f.Broker, func(_ context.Context, cluster, _ string, _ []byte) ([]byte, error) {
		time.Sleep(2 * time.Millisecond) // as if it were written to a disk
		return []byte("taken " + cluster), nil
	})
	if err := f.Admit(func(key string) (string, bool) { c, ok := clusters[key]; return c, ok }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *flooded) dial(cluster string) (*nats.Conn, error) {
	key := f.keys[cluster]
	return nats.Connect(strings.Replace(f.WebsocketURL(), "http", "ws", 1), nats.Nkey(public(key), key.Sign),
		nats.CustomInboxPrefix(protocol.InboxPrefix(cluster)), nats.NoReconnect(), nats.Timeout(5*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// flood sends requests of the size from so many connections of cluster a until
// they are cut or stop is closed, and then closes done.
func (f *flooded) flood(connections, size int, stop <-chan struct{}) (done <-chan struct{}) {
	f.t.Helper()
	var running sync.WaitGroup
	for range connections {
		conn, err := f.dial("a")
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(conn.Close)
		inbox, data := conn.NewRespInbox(), make([]byte, size)
		running.Go(func() {
			for conn.PublishRequest("up.a.sync", inbox, data) == nil {
				f.sent.Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { running.Wait(); close(over) }()
	return over
}

// useB connects as cluster b, asks, and uses the relay's store, again and
// again until done, and counts.
func (f *flooded) useB(done <-chan struct{}) (times int) {
	f.t.Helper()
	old, err := f.dial("b")
	if err != nil {
		f.t.Fatal(err)
	}
	defer old.Close()
	for last := false; !last; times++ {
		select {
		case <-done:
			last = true
		default:
		}
		fresh, err := f.dial("b")
		if err != nil {
			f.t.Fatalf("connect, after %d times: %v", times, err)
		}
		for _, conn := range []*nats.Conn{old, fresh} {
			answer, err := conn.Request("up.b.sync", nil, 5*time.Second)
			if err != nil || string(answer.Data) != "taken b" {
				f.t.Fatalf("ask, after %d times: %+v, %v", times, answer, err)
			}
		}
		fresh.Close()
		if err := f.Ready(f.t.Context()); err != nil {
			f.t.Fatalf("after %d times: %v", times, err)
		}
	}
	return times
}

// counted is the sum of a counter.
func counted(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// TestFlood: a cluster that floods the relay is cut off and not let in for a
// while; the other one connects and is answered all the time.
func TestFlood(t *testing.T) {
	for _, connections := range []int{1, 4} {
		for _, size := range []int{10, protocol.MaxMessage} {
			t.Run(fmt.Sprintf("%d connections, %d bytes", connections, size), func(t *testing.T) {
				registry := prometheus.NewRegistry()
				f := newFlooded(t, registry)
				began := time.Now()
				cut := f.flood(connections, size, nil)
				times := f.useB(cut)
				t.Logf("cut after %d requests, %v; b was served %d times", f.sent.Load(), time.Since(began), times)
				if conn, err := f.dial("a"); err == nil {
					conn.Close()
					t.Error("the cluster that flooded is let in again at once")
				}
				if n := counted(t, registry, "trainrelay_floods_total"); n != 1 {
					t.Errorf("%v floods are counted", n)
				}
				f.useB(cut)
			})
		}
	}
}

// TestFloodStaysInItsLane: even while nobody cuts it off, a flood drowns
// nothing but its own cluster's requests.
func TestFloodStaysInItsLane(t *testing.T) {
	for _, connections := range []int{1, 4} {
		t.Run(fmt.Sprint(connections), func(t *testing.T) {
			f := newFlooded(t, nil)
			f.quota.mu.Lock()
			f.quota.use("a").excess = rate.NewLimiter(rate.Inf, 0)
			f.quota.mu.Unlock()
			stop, enough := make(chan struct{}), make(chan struct{})
			ended := f.flood(connections, 10, stop)
			go func() {
				for f.sent.Load() < 500_000 {
					time.Sleep(10 * time.Millisecond)
				}
				close(enough)
			}()
			began := time.Now()
			t.Logf("b was served %d times within %v", f.useB(enough), time.Since(began))
			close(stop)
			<-ended
		})
	}
}

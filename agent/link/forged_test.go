package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

// evil is what an answer orders that is not to be believed.
func evil(_ int, _ *protocol.Sync, reply *protocol.SyncReply) error {
	reply.Starts = []protocol.Start{start("evil")}
	reply.Cancels = []protocol.Cancel{{Ref: ref("mine"), Compute: "gpu"}}
	reply.Missing = []protocol.Missing{{Ref: ref("mine"), Compute: "gpu"}}
	reply.Computes = []protocol.Compute{{Name: "gpu", Namespace: "train"}}
	reply.Term = 77
	return nil
}

// attack makes of a genuine answer with such orders what the agent gets
// instead, one message after the other.
type attack func(t *testing.T, req *protocol.Sync, genuine []byte) [][]byte

// altered replaces text in the signed body, and keeps key and signature.
func altered(old, new string) attack {
	return func(t *testing.T, _ *protocol.Sync, genuine []byte) [][]byte {
		if !bytes.Contains(genuine, []byte(old)) {
			t.Errorf("there is no %s in %s", old, genuine)
		}
		return [][]byte{bytes.Replace(genuine, []byte(old), []byte(new), 1)}
	}
}

// envelope changes what is around the body.
func envelope(change func(*protocol.Envelope)) attack {
	return func(t *testing.T, _ *protocol.Sync, genuine []byte) [][]byte {
		var e protocol.Envelope
		if err := json.Unmarshal(genuine, &e); err != nil {
			t.Error(err)
		}
		change(&e)
		data, err := json.Marshal(e)
		if err != nil {
			t.Error(err)
		}
		return [][]byte{data}
	}
}

// signed is an answer that a relay's key did sign, other than this one.
func signed(key *protocol.SigningKey, change func(*protocol.SyncReply)) attack {
	return func(t *testing.T, req *protocol.Sync, _ []byte) [][]byte {
		reply := &protocol.SyncReply{Cluster: "onprem-1", Nonce: req.Nonce, ValidSeconds: 20}
		_ = evil(0, req, reply)
		change(reply)
		data, err := protocol.EncodeSigned(reply, key)
		if err != nil {
			t.Error(err)
		}
		return [][]byte{data}
	}
}

// then sends the genuine answer behind the forged one.
func then(first attack) attack {
	return func(t *testing.T, req *protocol.Sync, genuine []byte) [][]byte {
		return append(first(t, req, genuine), genuine)
	}
}

// named gives an answer's signature the name of the key that is trusted.
func named(first attack) attack {
	return func(t *testing.T, req *protocol.Sync, genuine []byte) [][]byte {
		return envelope(func(e *protocol.Envelope) { e.Key = relayKey.Public().ID() })(t, req, first(t, req, genuine)[0])
	}
}

// late holds a genuine answer back until it has expired.
func late(t *testing.T, req *protocol.Sync, _ []byte) [][]byte {
	data := signed(relayKey, func(r *protocol.SyncReply) { r.ValidSeconds = 1 })(t, req, nil)
	time.Sleep(time.Second + 50*time.Millisecond)
	return data
}

// carrier is a broker between the agent and its relay. While it is hostile, it
// delivers what the attack makes of the relay's answers to syncs.
type carrier struct {
	relay    *relay
	attack   attack
	hostile  atomic.Bool
	recorded []byte // an answer of the session, with orders, that was never delivered
}

// connect starts the broker and returns the agent's connection to it.
func (c *carrier) connect(t *testing.T) *bus.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker did not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe(protocol.UpWildcard(), func(m *nats.Msg) { c.deliver(t, m) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), bus.Options{URL: s.ClientURL(), Dialer: dialer, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func (c *carrier) deliver(t *testing.T, m *nats.Msg) {
	hostile := c.hostile.Load()
	data, err := c.relay.answer(m.Subject, m.Data)
	if err != nil {
		t.Error(err)
		return
	}
	answers := [][]byte{data}
	req := new(protocol.Sync)
	if protocol.Decode(m.Data, req) == nil {
		if c.recorded == nil {
			c.recorded = signed(relayKey, func(*protocol.SyncReply) {})(t, req, data)[0]
		} else if hostile {
			answers = c.attack(t, req, data)
		}
	}
	for _, answer := range answers {
		if err := m.Respond(answer); err != nil && !errors.Is(err, nats.ErrConnectionClosed) { // the test may be over
			t.Error(err)
		}
	}
}

// TestForgedCommands: between the agent and its relay is a broker that forges,
// alters, strips, replays, redirects and delays answers. Nothing that they
// order is done, each is counted and told to the relay as an incident, and once
// the broker is honest again work goes on in the same session.
func TestForgedCommands(t *testing.T) {
	stranger := newRelayKey()
	asked := func(nonce string) func(*protocol.SyncReply) {
		return func(r *protocol.SyncReply) { r.Nonce = nonce }
	}
	c := new(carrier) // of the subtest that runs
	replayed := func(*testing.T, *protocol.Sync, []byte) [][]byte { return [][]byte{c.recorded} }
	twoBodies := func(t *testing.T, req *protocol.Sync, genuine []byte) [][]byte {
		forged := altered(`"command":"true"`, `"command":"rm -rf /"`)(t, req, genuine)[0]
		_, body, _ := bytes.Cut(forged, []byte(`"body":`))
		return [][]byte{append(append(bytes.TrimSuffix(genuine, []byte("}")), `,"body":`...), body...)}
	}
	for _, tc := range []struct {
		name   string
		attack attack
		want   protocol.BreachKind
	}{
		{"command altered", altered(`"command":"true"`, `"command":"rm -rf /"`), protocol.Forged},
		{"image altered", altered(`"image":"busybox"`, `"image":"evil"`), protocol.Forged},
		{"job altered", altered(`"name":"evil"`, `"name":"mine"`), protocol.Forged},
		{"attempt altered", altered(`"attempt":1`, `"attempt":2`), protocol.Forged},
		{"namespace altered", altered(`"namespace":"train"`, `"namespace":"kube-system"`), protocol.Forged},
		{"cluster altered", altered(`"cluster":"onprem-1"`, `"cluster":"onprem-2"`), protocol.Forged},
		{"nonce altered", altered(`"nonce":"`, `"nonce":"x`), protocol.Forged},
		{"validity altered", altered(`"valid_seconds":20`, `"valid_seconds":19`), protocol.Forged},
		{"term altered", altered(`"term":77`, `"term":78`), protocol.Forged},
		{"cancel altered", altered(`"cancels":[{"job":"mine"`, `"cancels":[{"job":"yours"`), protocol.Forged},
		{"cancels removed", altered(`"cancels"`, `"canceled"`), protocol.Forged},
		{"missing altered", altered(`"missing":[{"job":"mine"`, `"missing":[{"job":"yours"`), protocol.Forged},
		{"field added", altered(`"body":{`, `"body":{"need_full":true,`), protocol.Forged},
		{"two bodies", twoBodies, protocol.Forged},
		{"signature stripped", envelope(func(e *protocol.Envelope) { e.Signature = nil }), protocol.Unsigned},
		{"signature and key stripped", envelope(func(e *protocol.Envelope) { e.Signature, e.Key = nil, "" }), protocol.Unsigned},
		{"signature of zeros", envelope(func(e *protocol.Envelope) { e.Signature = make([]byte, 64) }), protocol.Forged},
		{"signature cut", envelope(func(e *protocol.Envelope) { e.Signature = e.Signature[:32] }), protocol.Forged},
		{"unknown key", signed(stranger, func(*protocol.SyncReply) {}), protocol.UnknownKey},
		{"unknown key under a known name", named(signed(stranger, func(*protocol.SyncReply) {})), protocol.Forged},
		{"unknown key that introduces itself", signed(stranger, func(r *protocol.SyncReply) { k := trust(stranger); r.Trust = &k }), protocol.UnknownKey},
		{"replayed within the session", replayed, protocol.Replayed},
		{"replayed from another session", signed(relayKey, asked("a nonce of another session")), protocol.Replayed},
		{"replayed without a nonce", signed(relayKey, asked("")), protocol.Replayed},
		{"another cluster's", signed(relayKey, func(r *protocol.SyncReply) { r.Cluster = "onprem-2" }), protocol.Misaddressed},
		{"too late", late, protocol.Expired},
		{"forged, then the genuine one", then(altered(`"command":"true"`, `"command":"rm -rf /"`)), protocol.Forged},
		{"replayed, then the genuine one", then(replayed), protocol.Replayed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			*c = carrier{relay: new(relay), attack: tc.attack}
			resist(t, c, tc.want)
		})
	}
}

// resist runs a link through the carrier's attack and out of it again.
func resist(t *testing.T, c *carrier, want protocol.BreachKind) {
	good := grants(start("good"))
	c.relay.onSync = func(n int, req *protocol.Sync, reply *protocol.SyncReply) error {
		switch {
		case n == 0:
			return nil
		case c.hostile.Load():
			return evil(n, req, reply)
		}
		return good(n, req, reply)
	}
	c.hostile.Store(true)
	w := newWorkloads()
	registry := prometheus.NewRegistry()
	l := newLink(t, c.connect(t), w, func(o *Options) {
		o.Registerer = registry
		o.SaveTrust = func(context.Context, protocol.Trust) error { t.Error("learnt what to trust from a forger"); return nil }
	})
	stop := lead(t, l)
	again := func() { l.Wake(); l.Connection(true, nil) } // without a delay
	eventually(t, "the first, genuine answer", func() bool { return l.Status().Term == 1 })
	for refused := 1; refused <= 2; refused++ {
		again()
		eventually(t, "a breach", func() bool { return l.Status().Breaches >= refused })
	}
	if s := l.Status(); s.Breach == "" || s.LastError == "" || s.Term != 1 {
		t.Errorf("status %+v", s)
	}
	undisturbed := func() {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		others := slices.DeleteFunc(slices.Clone(w.started), func(r protocol.Ref) bool { return r == ref("good") })
		if len(others)+len(w.cancelled)+len(w.resolved) > 0 {
			t.Errorf("started %v, cancelled %v, resolved %v", others, w.cancelled, w.resolved)
		}
	}
	undisturbed()

	c.hostile.Store(false)
	again()
	w.until(t, "a genuine start", func() bool { return slices.Contains(w.started, ref("good")) })
	for range 2 {
		before := len(c.relay.sent())
		again()
		eventually(t, "a sync more", func() bool { return len(c.relay.sent()) > before })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	undisturbed()
	s := l.Status()
	syncs := c.relay.sent()
	told := 0
	for i, sync := range syncs {
		if sync.Session != syncs[0].Session {
			t.Error("the session changed")
		}
		if len(sync.Incidents) > 0 {
			told = i
		}
	}
	if told == 0 || told == len(syncs)-1 {
		t.Fatalf("incidents were told in sync %d of %d, last", told, len(syncs))
	}
	if in := syncs[told].Incidents; len(in) != 1 || in[0].Kind != want || in[0].Count != s.Breaches || in[0].Message == "" || in[0].Time.IsZero() {
		t.Errorf("told %+v, want %d of kind %s", in, s.Breaches, want)
	}
	if got := breaches(t, registry, want); got != s.Breaches || s.Breach != "" {
		t.Errorf("%d breaches of kind %s were counted, want %d; the status says %q", got, want, s.Breaches, s.Breach)
	}
}

// breaches is the metric.
func breaches(t *testing.T, registry *prometheus.Registry, kind protocol.BreachKind) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "trainrelay_agent_breaches_total" && m.GetLabel()[0].GetValue() == string(kind) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// eventually polls what a link says of itself.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

package relay

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/broker"
)

// tenants are two clusters: a is whoever stole a's credential, b works.
type tenants struct {
	t    *testing.T
	s    *served
	key  nkeys.KeyPair
	a, b *agent
	said chan error // by the server to a
	word string     // at which b expects nudges, which a does not know
}

func newTenants(t *testing.T, opts Options) *tenants {
	s := serveWith(t, opts)
	key, keyOfB := s.setUp(t, "a"), s.setUp(t, "b")
	x := &tenants{t: t, s: s, key: key, said: make(chan error, 256), word: "aWordThatNobodyCanGuess7"}
	x.a, x.b = s.leadFront(t, "a", key), s.leadFront(t, "b", keyOfB)
	x.a.conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { x.said <- err })
	submit(t, s.running, sampleJob("of-b", "b"))
	wantStarts(t, x.b.room(1), attempt("of-b", 1))
	x.b.observe(attempt("of-b", 1), protocol.Preparing)
	if _, err := x.b.conn.SubscribeSync(protocol.NudgeSubject("b", x.word)); err != nil {
		t.Fatal(err)
	}
	if err := x.b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return x
}

// refusal waits for what the server says.
func (x *tenants) refusal() string {
	select {
	case err := <-x.said:
		return err.Error()
	case <-time.After(10 * time.Second):
		return ""
	}
}

// TestCrossTenant: whoever has the credential of one cluster can neither read,
// write, answer nor inject into anything of another, nor reach JetStream.
func TestCrossTenant(t *testing.T) {
	t.Run("by the front", func(t *testing.T) { testCrossTenant(t, Options{Data: t.TempDir()}) })
	t.Run("external", func(t *testing.T) {
		site := newNATSSite(t)
		site.start(site.config(broker.Server{}))
		testCrossTenant(t, Options{Data: t.TempDir(), NATS: site.external()})
	})
}

func testCrossTenant(t *testing.T, opts Options) {
	x := newTenants(t, opts)
	streams := streamsOf(t.Context(), t, x.s.running)
	heard := x.b.conn.Stats().InMsgs
	job, err := x.s.Jobs().Job(t.Context(), "of-b")
	if err != nil {
		t.Fatal(err)
	}

	x.publish()
	x.subscribe()
	x.inject()
	x.headers()
	x.byHand()
	x.otherCredentials()

	// The relay holds and answers both, and b saw none of it.
	if err := x.b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if now := x.b.conn.Stats().InMsgs; now != heard {
		t.Errorf("b has received %d messages of a's", now-heard)
	}
	if diff := cmp.Diff(streams, streamsOf(t.Context(), t, x.s.running)); diff != "" {
		t.Errorf("a has changed what is kept: %s", diff)
	}
	if now, err := x.s.Jobs().Job(t.Context(), "of-b"); err != nil || cmp.Diff(job, now) != "" {
		t.Errorf("b's job: %v, %s", err, cmp.Diff(job, now))
	}
	x.a.room(0)
	x.b.observe(attempt("of-b", 1), protocol.Running)
	// What b listens to does arrive: its silence above means something. And what
	// keeps a's injections out is that the word, like an inbox, cannot be guessed;
	// who knows it can have b sync once more, which b does anyway.
	if err := x.s.Broker().Nudge("b", x.word); err != nil {
		t.Fatal(err)
	}
	x.wantHeard(heard + 2) // with the answer to its observation
	if err := x.a.conn.PublishRequest("up.a.sync", protocol.NudgeSubject("b", x.word), []byte("junk")); err != nil {
		t.Fatal(err)
	}
	x.wantHeard(heard + 3)
}

func (x *tenants) wantHeard(n uint64) {
	x.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); x.b.conn.Stats().InMsgs < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("b has received %d messages, want %d", x.b.conn.Stats().InMsgs, n)
		}
	}
}

func (x *tenants) show(attempt, result string) { x.t.Logf("%-58s → %s", attempt, result) }

// others are subjects that are not a's.
func (x *tenants) others() []string {
	return []string{
		"up.b.sync", "up.b.event", "up.b.log", "up.a.other", "up.a", "up.a.sync.x", "nudge.a", "nudge.a." + nudgeWord, "nudge.b", "nudge.b." + x.word,
		"_INBOX_b.guess", "_INBOX_a", "_INBOX.x", "$JS.API.INFO", "$JS.API.STREAM.INFO.KV_JOBS", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.KV_JOBS",
		"$JS.API.STREAM.DELETE.AUDIT", "$JS.API.CONSUMER.CREATE.LOGS", "$JS.API.DIRECT.GET.KV_JOBS", "$JS.API.STREAM.MSG.GET.LOGS",
		"$JS.ACK.LOGS.x.1.1.1.1.0", "$JS.FC.LOGS.x", "$KV.JOBS.of-b.status", "$KV.SETUP.cluster.b", "$KV.SETUP.token.x", "dead.up.b.sync", "log.of-b.1.0", "logplace.of-b.1.0", "logsent.place", "audit.x",
		"$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.RELAY.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.ACCOUNT.AGENTS.DISCONNECT",
		"_R_.x.y", "_GR_.x.y", "up._check.sync", "nudge._check.x",
	}
}

func (x *tenants) publish() {
	for _, subject := range x.others() {
		if err := x.a.conn.Publish(subject, []byte("{}")); err != nil {
			x.t.Fatal(err)
		}
		said := x.refusal()
		if !strings.Contains(strings.ToLower(said), "permissions violation for publish") {
			x.t.Errorf("publish to %s: %q", subject, said)
		}
		x.show("publish "+subject, said)
	}
}

func (x *tenants) subscribe() {
	wild := []string{">", "*", "*.>", "up.>", "up.*.*", "up.a.sync", "nudge.>", "nudge.*.*", "nudge.b.*", "_INBOX_b.>", "_INBOX_*.>", "_INBOX.>", "$SYS.>", "$SYS.REQ.USER.AUTH", "$JS.>", "$JS.EVENT.>", "$KV.>", "_R_.>", "_GR_.>", "log.>", "dead.>", "audit.>"}
	for _, subject := range append(wild, "nudge.b."+x.word, "_INBOX_b.guess") {
		for _, queue := range []string{"", "relay"} {
			var err error
			if queue == "" {
				_, err = x.a.conn.SubscribeSync(subject)
			} else {
				_, err = x.a.conn.QueueSubscribeSync(subject, queue)
			}
			if err != nil {
				x.t.Fatal(err)
			}
			said := x.refusal()
			if !strings.Contains(strings.ToLower(said), "permissions violation for subscription") {
				x.t.Errorf("subscribe to %s %s: %q", subject, queue, said)
			}
			x.show(strings.TrimSpace("subscribe "+subject+" "+queue), said)
		}
	}
}

// inject asks what a may ask, and wants the answer to go elsewhere.
func (x *tenants) inject() {
	sync, err := protocol.Encode(&protocol.Sync{Nonce: "nonce-of-the-injection", Session: x.a.session, Term: x.a.term, Nudge: nudgeWord})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, reply := range append(x.others(), "nudge.b.*", "nudge.b.>", "nudge.*.*", "_INBOX_b.*", "_INBOX_b.*.*", "_INBOX_b.>", ">", "up.b.*", "dead.>", "$KV.>") {
		for _, body := range [][]byte{sync, []byte("junk")} {
			if reply == "nudge.b."+x.word {
				continue // which a cannot know
			}
			if err := x.a.conn.PublishRequest("up.a.sync", reply, body); err != nil {
				x.t.Fatal(err)
			}
		}
		x.show("request up.a.sync, answer to "+reply, "reaches nobody")
	}
	x.settle()
}

// settle waits until the relay has answered all that a sent.
func (x *tenants) settle() {
	for i := range 200 { // refused for now while there is too much at once
		if _, err := x.a.trySync(protocol.Sync{}); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond * time.Duration(min(i, 10)))
	}
	x.t.Error("the relay does not answer a any more")
}

func (x *tenants) headers() {
	event, err := protocol.Encode(&protocol.EventBatch{Events: []protocol.Event{x.a.event(attempt("of-b", 1), protocol.Failed)}})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, header := range []string{
		"Nats-Msg-Id: x", "Nats-Expected-Stream: KV_JOBS", "Nats-Expected-Last-Sequence: 0", "Nats-Expected-Last-Msg-Id: x",
		"Nats-Expected-Last-Subject-Sequence: 0", "Nats-Rollup: all", "Nats-Rollup: sub", "Nats-TTL: 1s", "Nats-Schedule: @every 1s", "Nats-Batch-Id: x",
		"Nats-Trace-Dest: up.b.sync", "Nats-Trace-Dest: nudge.b." + x.word, "Nats-Trace-Only: true", "KV-Operation: PURGE", "Status: 503",
		`Nats-Request-Info: {"acc":"RELAY","user":"relay"}`, "Reason: x", "Nats-Stream: KV_JOBS", "Nats-Subject: $KV.JOBS.of-b.status", "Nats-Num-Pending: 0",
	} {
		m := nats.NewMsg("up.a.event")
		name, value, _ := strings.Cut(header, ": ")
		m.Header.Set(name, value)
		m.Data = event
		result := ""
		for try := 0; try < 100; try++ {
			answer, err := x.a.conn.RequestMsg(m, time.Second)
			if err != nil {
				result = "no answer: " + err.Error()
				break
			}
			reply := new(protocol.EventReply)
			if err := protocol.Decode(answer.Data, reply); err == nil {
				if reply.Results[0].Outcome != protocol.Unknown {
					x.t.Errorf("%s: a's word on b's attempt: %s", header, reply.Results[0].Outcome)
				}
				result = "answered as without: the attempt is " + string(reply.Results[0].Outcome)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if result == "" {
			x.t.Errorf("%s: no answer", header)
		}
		x.show("header "+header, result)
	}
	for drained := false; !drained; {
		select {
		case err := <-x.said:
			x.show("", err.Error())
		default:
			drained = true
		}
	}
}

// byHand sends what client libraries do not.
func (x *tenants) byHand() {
	attempts := map[string]string{
		"a control line of 64 KB":              "PUB up.a." + strings.Repeat("x", 64<<10) + " 0\r\n\r\n",
		"a payload of 100 MB announced":        "PUB up.a.sync 104857600\r\n",
		"a payload of -1":                      "PUB up.a.sync -1\r\n\r\n",
		"a route's message":                    "RMSG RELAY up.b.sync 2\r\n{}\r\n",
		"a leaf node's message":                "LMSG up.b.sync 2\r\n{}\r\n",
		"a route's subscription":               "RS+ RELAY >\r\n",
		"a leaf node's subscription":           "LS+ >\r\n",
		"an account's":                         "A+ RELAY\r\n",
		"the server's own INFO":                "INFO {\"server_id\":\"x\",\"cluster\":\"x\"}\r\n",
		"a message to itself":                  "MSG up.b.sync 1 2\r\n{}\r\n",
		"another's subject":                    "PUB up.b.sync 2\r\n{}\r\n",
		"another's subject with headers":       "HPUB up.b.sync 14 16\r\nNATS/1.0\r\nA:b\r\n{}\r\n",
		"two subjects in one":                  "PUB up.a.sync up.b.sync nudge.b.x 2\r\n{}\r\n",
		"a subject with a NUL":                 "PUB up.b\x00.sync 2\r\n{}\r\n",
		"a second CONNECT for another account": "CONNECT {\"account\":\"RELAY\",\"new_account\":true}\r\nSUB > 1\r\n",
		"a queue group of the relay's":         "SUB up.*.* relay 1\r\n",
	}
	for _, name := range slices.Sorted(maps.Keys(attempts)) {
		text := attempts[name]
		said := x.s.speaks(x.t, x.key, "", text)
		if !strings.Contains(said, "-ERR") && !strings.Contains(said, "closed") && name != "the server's own INFO" {
			x.t.Errorf("%s: %q", name, said)
		}
		x.show("by hand: "+name, fmt.Sprintf("%.120q", said))
	}
	for name, more := range map[string]string{
		"the relay's account in CONNECT":      `,"account":"RELAY"`,
		"the system's account, new":           `,"account":"SYS","new_account":true`,
		"the relay's name":                    `,"name":"relay"`,
		"a user beside the key":               `,"user":"relay","pass":"relay"`,
		"a token beside the key":              `,"auth_token":"relay"`,
		"as a leaf node":                      `,"is_spoke":true,"remote_account":"RELAY"`,
		"a JWT of its own for account RELAY":  `,"jwt":"` + x.ownJWT() + `"`,
		"another's inbox as prefix, echo off": `,"echo":false`,
	} {
		said := x.s.speaks(x.t, x.key, more, "SUB up.b.* 1\r\n")
		if !strings.Contains(said, "-ERR") && !strings.Contains(said, "closed") {
			x.t.Errorf("%s: %q", name, said)
		}
		x.show("CONNECT with "+name, said)
	}
}

// ownJWT is a user's that a has made, of an account that a has made.
func (x *tenants) ownJWT() string {
	account, err := nkeys.CreateAccount()
	if err != nil {
		x.t.Fatal(err)
	}
	public, err := x.key.PublicKey()
	if err != nil {
		x.t.Fatal(err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Audience, claims.Name = "RELAY", "relay"
	text, err := claims.Encode(account)
	if err != nil {
		x.t.Fatal(err)
	}
	return text
}

// otherCredentials tries to connect as somebody else.
func (x *tenants) otherCredentials() {
	keyOfB := x.s.keyOf(x.t, "b")
	w, nonce := x.s.wire(x.t)
	proof := login(x.key, nonce, "")
	w.send(strings.Replace(proof, x.s.keyOf(x.t, "a"), keyOfB, 1))
	x.wantRefused("b's key, signed with a's", w.until("PONG", "-ERR"))

	// What a signed once, of a connection that is there: a stolen proof.
	w, nonce = x.s.wire(x.t)
	proof = login(x.key, nonce, "")
	w.send(proof)
	if said := w.until("PONG", "-ERR"); !strings.Contains(said, "PONG") {
		x.t.Fatal(said)
	}
	w, _ = x.s.wire(x.t)
	w.send(proof)
	x.wantRefused("a signed nonce of another connection", w.until("PONG", "-ERR"))

	for name, text := range map[string]string{
		"nothing":                     `{}`,
		"a user":                      `{"user":"relay","pass":"relay"}`,
		"a token":                     `{"auth_token":"x"}`,
		"b's key without a signature": `{"nkey":"` + keyOfB + `"}`,
		"a JWT of its own only":       `{"jwt":"` + x.ownJWT() + `"}`,
	} {
		w, _ := x.s.wire(x.t)
		w.send("CONNECT " + text + "\r\nPING\r\n")
		x.wantRefused(name, w.until("PONG", "-ERR"))
	}
	for _, path := range []string{"/nats/leafnode", "/leafnode", "/nats/mqtt", "/mqtt", "/nats/../leafnode"} {
		status, _ := x.s.request(x.t, "GET", path, "", nil)
		if status == http.StatusSwitchingProtocols {
			x.t.Errorf("%s: %d", path, status)
		}
		x.show("upgrade at "+path, fmt.Sprint("HTTP ", status))
	}
}

func (x *tenants) wantRefused(what, said string) {
	if strings.Contains(said, "PONG") || !strings.Contains(said, "Authorization Violation") && !strings.Contains(said, "closed") {
		x.t.Errorf("%s: %q", what, said)
	}
	x.show("connect with "+what, strings.TrimSpace(said))
}

// keyOf is the public key of a cluster.
func (s *served) keyOf(t *testing.T, name string) string {
	t.Helper()
	c, err := s.Jobs().Cluster(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c.PublicKey
}

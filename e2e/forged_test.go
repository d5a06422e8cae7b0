package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// imposter is a broker in the relay's place: it has the relay's TLS key and a
// way to the real relay, and not the signing key.
type imposter struct {
	t        *testing.T
	upstream *nats.Conn

	mu     sync.Mutex
	before []byte         // the genuine answer to the sync before
	done   map[string]int // attacks that were delivered
}

// stand takes the relay's place for the agent, until the end of the test or
// until leave is called.
func stand(t *testing.T) (i *imposter, leave func()) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(site(t).Dir, "relay", "tls", "server.crt"), filepath.Join(site(t).Dir, "relay", "tls", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, AlwaysEnableNonce: true,
		Websocket: server.WebsocketOpts{Host: site(t).CloudIP, Port: site(t).RelayPort, HandshakeTimeout: 5 * time.Second,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the imposter's broker did not start")
	}
	i = &imposter{t: t, done: map[string]int{}}
	// It would hold the agent's own connection; here it has one of its own.
	if i.upstream, err = site(t).AgentConn(site(t).AgentKey(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.upstream.Close)
	own, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	if _, err := own.Subscribe(protocol.UpWildcard(), i.carry); err != nil {
		t.Fatal(err)
	}
	restore := site(t).ResolveRelay(t, site(t).CloudIP)
	t.Cleanup(restore)
	return i, restore
}

// carry takes a request to the relay and brings back what it likes.
func (i *imposter) carry(m *nats.Msg) {
	reply, err := i.upstream.Request(m.Subject, m.Data, 10*time.Second)
	if err != nil {
		return // the test is over, or the relay is away
	}
	answers := [][]byte{reply.Data}
	if _, verb, _ := protocol.ParseUpSubject(m.Subject); verb == protocol.VerbSync {
		answers = i.attack(reply.Data)
	}
	for _, answer := range answers {
		_ = m.Respond(answer) // the agent may be gone
	}
}

// attack makes the next attack of a genuine answer, the one that was done the
// fewest times. Those that alter a start wait for an answer with one.
func (i *imposter) attack(genuine []byte) [][]byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	defer func() { i.before = genuine }()
	replace := func(old, new string) []byte {
		if !bytes.Contains(genuine, []byte(old)) {
			return nil
		}
		return bytes.Replace(genuine, []byte(old), []byte(new), 1)
	}
	made := map[string][][]byte{
		"stripped":           {i.stripped(genuine)},
		"signed by another":  {i.forged(genuine)},
		"command altered":    {replace("echo genuine", "echo altered")},
		"image altered":      {replace(`"image":"`, `"image":"evil/`)},
		"namespace altered":  {replace(`"namespace":"`+site(i.t).Namespace+`"`, `"namespace":"default"`)},
		"replayed":           {i.before},
		"forged, then right": {i.forged(genuine), genuine},
	}
	next := "stripped"
	for name, answers := range made {
		if answers[0] != nil && i.done[name] < i.done[next] {
			next = name
		}
	}
	i.done[next]++
	return made[next]
}

func (i *imposter) stripped(genuine []byte) []byte {
	var e protocol.Envelope
	if err := json.Unmarshal(genuine, &e); err != nil {
		i.t.Error(err)
	}
	e.Key, e.Signature = "", nil
	data, err := json.Marshal(e)
	if err != nil {
		i.t.Error(err)
	}
	return data
}

// forged is an answer with a start of the imposter's own, signed with a key
// that is its own, too, and that it introduces.
func (i *imposter) forged(genuine []byte) []byte {
	reply := new(protocol.SyncReply)
	if err := protocol.Decode(genuine, reply); err != nil {
		return nil
	}
	key, err := protocol.NewSigningKey()
	if err != nil {
		i.t.Error(err)
	}
	reply.Trust = &protocol.Trust{Keys: []protocol.RelayKey{key.Public()}}
	reply.Starts = []protocol.Start{{Attempt: 1, Job: protocol.Job{
		Name: "forged", Command: "echo forged", Image: site(i.t).Image, Compute: site(i.t).Compute, Instances: 1,
	}}}
	data, err := protocol.EncodeSigned(reply, key)
	if err != nil {
		i.t.Error(err)
	}
	return data
}

// worked reports whether each attack was delivered.
func (i *imposter) worked() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.done) == 7
}

// TestForgedCommands: whoever stands in the relay's place with its TLS key, but
// without its signing key, starts nothing in the cluster. The relay hears of
// it once the agent reaches it again, and work goes on by itself.
func TestForgedCommands(t *testing.T) {
	waitForSync(t)
	before := time.Now()
	evil, leave := stand(t)
	name := unique("genuine")
	submit(t, name, "command: echo genuine")
	nothing := func() {
		t.Helper()
		if jobs := append(kubernetesJobs(t, name), kubernetesJobs(t, "forged")...); len(jobs) > 0 {
			t.Fatalf("forged commands made the Job %s, which runs %q", jobs[0].Name, jobs[0].Spec.Template.Spec.Containers[0].Args)
		}
	}
	for deadline := time.Now().Add(4 * time.Minute); !evil.worked(); time.Sleep(200 * time.Millisecond) {
		nothing()
		if time.Now().After(deadline) {
			t.Fatal("the imposter did not deliver each attack")
		}
	}
	site(t).WaitForAgentLog(t, before, "security incident")
	nothing()

	leave()
	waitFor(t, name, func(j v1.Job) bool { return j.Status == protocol.Completed })
	if out := site(t).CLI(t.Context(), "job", "stream", "-n", name); !strings.Contains(out.Stdout, "genuine") {
		t.Errorf("it ran %q", out.Stdout)
	}
	if jobs := kubernetesJobs(t, "forged"); len(jobs) > 0 {
		t.Errorf("the forged job was made: %s", jobs[0].Name)
	}
	var cluster v1.Cluster
	out := site(t).CLI(t.Context(), "cluster", "show", "-n", site(t).ClusterName, "-o", "json")
	if err := json.Unmarshal([]byte(out.Stdout), &cluster); err != nil || cluster.Incidents == nil || cluster.Incidents.Count < 7 {
		t.Errorf("cluster show: %v, %+v", err, cluster.Incidents)
	}
	out = site(t).CLI(t.Context(), "audit", "--action", "security.incident", "-o", "json")
	for _, kind := range []protocol.BreachKind{protocol.Unsigned, protocol.UnknownKey, protocol.Forged, protocol.Replayed} {
		if !strings.Contains(out.Stdout, `"detail": "`+string(kind)+",") {
			t.Errorf("the audit log has no %s incident: %s%s", kind, out.Stdout, out.Stderr)
		}
	}
	t.Logf("%d answers were refused: %v", cluster.Incidents.Count, evil.done)
}

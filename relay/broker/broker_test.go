package broker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, dir string) *Broker {
	t.Helper()
	return startWith(t, Options{Dir: dir})
}

func startWith(t *testing.T, opts Options) *Broker {
	t.Helper()
	opts.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	b, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(b.Stop))
	return b
}

// admitted makes a key that is admitted for cluster "c".
func admitted(t *testing.T, b *Broker) (kp nkeys.KeyPair, public string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = kp.PublicKey(); err != nil {
		t.Fatal(err)
	}
	if err := b.Admit(func(key string) (string, bool) { return "c", key == public }); err != nil {
		t.Fatal(err)
	}
	return kp, public
}

func agentOf(t *testing.T, b *Broker, kp nkeys.KeyPair, opts ...nats.Option) *nats.Conn {
	t.Helper()
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(strings.Replace(b.WebsocketURL(), "http", "ws", 1),
		append(opts, nats.Nkey(public, kp.Sign), nats.CustomInboxPrefix(protocol.InboxPrefix("c")), nats.NoReconnect())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// serveWith answers requests with handle until the test ends.
func serveWith(t *testing.T, b *Broker, handle Handler) {
	t.Helper()
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPanicCostsOneRequest: the relay lives on, and the message is kept.
func TestPanicCostsOneRequest(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	serveWith(t, b, func(_ context.Context, cluster, verb string, data []byte) ([]byte, error) {
		if string(data) == "bomb" {
			panic("boom")
		}
		return []byte(cluster + " " + verb), nil
	})
	conn := agentOf(t, b, kp)
	ask := func(data string) string {
		t.Helper()
		m, err := conn.Request(protocol.UpSubject("c", protocol.VerbSync), []byte(data), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Data)
	}
	if got := ask("bomb"); !strings.Contains(got, "refusal") {
		t.Errorf("answer to a request that panics: %s", got)
	}
	if got := ask("x"); got != "c sync" {
		t.Errorf("the next answer: %s", got)
	}
	stream, err := b.JetStream().Stream(t.Context(), DeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(letter.Data) != "bomb" {
		t.Errorf("dead letter %q, %v", letter.Data, err)
	}
}

// TestShareOfACluster: a cluster that asks too much at once is told so, and
// all requests are answered.
func TestShareOfACluster(t *testing.T) {
	b := start(t, t.TempDir())
	kp, _ := admitted(t, b)
	release := make(chan struct{})
	serveWith(t, b, func(context.Context, string, string, []byte) ([]byte, error) {
		<-release
		return []byte("done"), nil
	})
	conn := agentOf(t, b, kp)
	answers := make(chan *nats.Msg, 64)
	inbox := conn.NewRespInbox()
	sub, err := conn.ChanSubscribe(inbox, answers)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	const asked = maxRequestsPerCluster + 5
	for range asked {
		if err := conn.PublishRequest("up.c.sync", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	deferred, done := 0, 0
	for range asked {
		m := <-answers
		switch {
		case strings.Contains(string(m.Data), `"temporary":true`):
			if deferred++; deferred == 5 {
				close(release)
			}
		case string(m.Data) == "done":
			done++
		default:
			t.Fatalf("answer %s %v", m.Data, m.Header)
		}
	}
	if done != maxRequestsPerCluster {
		t.Errorf("%d done, %d deferred of %d", done, deferred, asked)
	}
}

// TestNobodyBeforeAdmit: agents wait until the records are read.
func TestNobodyBeforeAdmit(t *testing.T) {
	b := start(t, t.TempDir())
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := nats.Connect(strings.Replace(b.WebsocketURL(), "http", "ws", 1), nats.Nkey(public, kp.Sign)); err == nil {
		conn.Close()
		t.Error("an agent was let in before the records are read")
	}
	if n := b.callout.connections.count(); n != 0 {
		t.Errorf("%d agents", n)
	}
}

// TestNoSecretOnDisk: the broker's files hold no seed and the folder is the
// relay's alone.
func TestNoSecretOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	b := start(t, dir)
	admitted(t, b)
	var seeds []string
	for _, f := range b.keys.files() {
		seed, err := (*f.key).Seed()
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, string(seed))
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, seed := range seeds {
			if strings.Contains(string(data), seed) {
				t.Errorf("%s holds a seed of the relay's", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEveryWriteIsSynced: an acknowledged record survives a power cut.
func TestEveryWriteIsSynced(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	o, err := embedded(t.TempDir(), Options{}, keys)
	if err != nil || !o.SyncAlways {
		t.Errorf("the server acknowledges before it syncs (%v)", err)
	}
}

package relay

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/trainrelay/trainrelay/protocol"
	"github.com/trainrelay/trainrelay/relay/broker"
	"github.com/trainrelay/trainrelay/relay/export"
)

// receiver takes OTLP logs at an address of its own, while it is up.
type receiver struct {
	t    *testing.T
	addr string
	stop func()

	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, addr: "127.0.0.1:0", news: make(chan struct{}, 1)}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	server := &http.Server{Handler: r}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // until it is closed
	r.stop = sync.OnceFunc(func() {
		_ = server.Close()
		<-done
	})
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	request := new(collectorpb.ExportLogsServiceRequest)
	zip, err := gzip.NewReader(req.Body)
	if err == nil {
		var body []byte
		if body, err = io.ReadAll(zip); err == nil {
			err = proto.Unmarshal(body, request)
		}
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range request.ResourceLogs[0].ScopeLogs[0].LogRecords {
		r.lines = append(r.lines, record.Body.GetStringValue())
	}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// want waits for so many lines and compares them.
func (r *receiver) want(lines ...string) {
	r.t.Helper()
	for {
		r.mu.Lock()
		got := append([]string(nil), r.lines...)
		r.mu.Unlock()
		if len(got) >= len(lines) {
			if diff := cmp.Diff(lines, got); diff != "" {
				r.t.Fatal(diff)
			}
			return
		}
		select {
		case <-r.news:
		case <-time.After(30 * time.Second):
			r.t.Fatalf("%q came, and nothing more", got)
		}
	}
}

// TestOutputIsSentOn, each line once: also what comes while the collector is
// away, or while the relay starts anew.
func TestOutputIsSentOn(t *testing.T) { everyBroker(t, testOutputIsSentOn) }

func testOutputIsSentOn(t *testing.T, opts Options) {
	collector := newReceiver(t)
	opts.Export = &export.Target{Endpoint: "http://" + collector.addr}
	r := start(t, opts)
	key := addCluster(t, r, "c")
	a := lead(t, r, "c", "one", key)
	a.join()
	submit(t, r, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	var lines []string
	output := func(eof bool) {
		text := fmt.Sprintf("line %d", len(lines))
		a.output(attempt("job", 1), 0, uint32(len(lines)), text+"\n", eof)
		lines = append(lines, text)
	}
	output(false)
	collector.want(lines...)

	collector.stop()
	output(false)
	output(false)
	collector.start()
	collector.want(lines...)

	collector.stop()
	output(false)
	r.stop()
	collector.start()
	r = start(t, opts)
	a = lead(t, r, "c", "two", key)
	a.join(protocol.Ref{Job: "job", Attempt: 1})
	output(true)
	collector.want(lines...)
}

// TestTwoRelaysSendOnce: of relays on one NATS server one sends output on, and
// when it stops the other goes on where it was.
func TestTwoRelaysSendOnce(t *testing.T) {
	site := newNATSSite(t)
	site.start(site.config(broker.Server{}))
	collector := newReceiver(t)
	opts := Options{Data: t.TempDir(), NATS: site.external(), Export: &export.Target{Endpoint: "http://" + collector.addr}}
	one := start(t, opts)
	a := lead(t, one, "c", "one", addCluster(t, one, "c"))
	a.join()
	submit(t, one, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	two := start(t, opts)
	var lines []string
	output := func(by *running) {
		t.Helper()
		n := uint32(len(lines))
		lines = append(lines, fmt.Sprintf("line %d", n))
		chunk := &protocol.LogChunk{Ref: attempt("job", 1), From: at(n), To: at(n + 1), Data: []byte(lines[n] + "\n")}
		if reply, err := by.Logs().Append(t.Context(), "c", chunk); err != nil || !reply.Taken {
			t.Fatalf("%+v, %v", reply, err)
		}
	}
	for range 20 {
		output(one)
		output(two)
	}
	collector.want(lines...)
	one.stop()
	output(two)
	collector.want(lines...)
}

func TestExportNeedsAnEndpoint(t *testing.T) {
	r, err := New(Options{Data: t.TempDir(), Export: &export.Target{Endpoint: "collector:4318"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("the relay started")
	}
}

package logs

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/trainrelay/trainrelay/protocol"
)

// kubelet answers the log endpoint of one pod as the API server and the
// kubelet do: a timestamp in front of each line, since cut to seconds and
// applied to each entry of the log file, even where one is in mid line.
type kubelet struct {
	mu      sync.Mutex
	entries []entry
	rotated int  // so many entries are gone from the current file
	ended   bool // the container is
	deleted bool // the pod is
	cuts    []cut
	opened  int
	changed chan struct{} // closed and replaced at every change
}

// entry is what the container runtime writes at once: a line, or a part of
// one without its newline.
type entry struct {
	at   time.Time
	text string
}

// cut breaks a response off after so many bytes.
type cut struct {
	after   int
	orderly bool // the response ends as if it was whole
}

func newKubelet() *kubelet { return &kubelet{changed: make(chan struct{})} }

func (k *kubelet) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *kubelet) write(at time.Time, text string) {
	k.change(func() { k.entries = append(k.entries, entry{at, text}) })
}

// rotate takes the first n entries away, or some fewer: a file ends with a
// line, and lines that count under one timestamp stay together.
func (k *kubelet) rotate(n int) {
	for n = min(n, len(k.entries)-1); n > k.rotated; n-- {
		var newest time.Time
		for _, e := range k.entries[:n] {
			newest = later(newest, e.at)
		}
		if strings.HasSuffix(k.entries[n-1].text, "\n") && k.entries[n].at.After(newest) {
			k.rotated = n
			return
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	if q.Get("container") != "main" || q.Get("timestamps") != "true" {
		http.Error(w, "unexpected options "+req.URL.RawQuery, http.StatusBadRequest)
		return
	}
	var since time.Time
	if s := q.Get("sinceTime"); s != "" {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil || t.Nanosecond() != 0 {
			http.Error(w, "sinceTime "+s, http.StatusBadRequest)
			return
		}
		since = t
	}
	k.mu.Lock()
	k.opened++
	deleted, next := k.deleted, k.rotated
	broken := cut{after: 1 << 40}
	if len(k.cuts) > 0 {
		broken, k.cuts = k.cuts[0], k.cuts[1:]
	}
	k.mu.Unlock()
	if deleted {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
		return
	}
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	newLine := true
	for {
		k.mu.Lock()
		entries, ended, changed := k.entries, k.ended, k.changed
		k.mu.Unlock()
		for ; next < len(entries); next++ {
			e := entries[next]
			text := e.text
			if newLine {
				text = e.at.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
			}
			newLine = strings.HasSuffix(e.text, "\n")
			if e.at.Before(since) {
				continue
			}
			n := min(len(text), broken.after)
			if _, err := w.Write([]byte(text[:n])); err != nil {
				return
			}
			if broken.after -= n; broken.after == 0 {
				_ = flush()
				if broken.orderly {
					return
				}
				panic(http.ErrAbortHandler)
			}
		}
		_ = flush()
		if q.Get("follow") != "true" || ended {
			return
		}
		select {
		case <-changed:
		case <-req.Context().Done():
			return
		}
	}
}

// client connects to the kubelet without a network, so that a test may have
// its own time.
func (k *kubelet) client(t testing.TB) (pods corev1.PodsGetter, stop func()) {
	t.Helper()
	listener := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/namespaces/train/pods/iris-0/log", k)
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	transport := &http.Transport{DialContext: listener.dial}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: transport, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return client.CoreV1(), func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	}
}

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// relay takes chunks at its position only, and fails as scripted.
type relay struct {
	mu     sync.Mutex
	at     protocol.LogPosition
	text   strings.Builder // with each gap as a line of its own
	chunks int
	eof    bool
	gaps   []string
	fates  []error // of the next requests; nil to answer
	done   chan struct{}
}

const gapMark = "\n<gap>\n"

var (
	errLostRequest = errors.New("the request got lost")
	errLostAnswer  = errors.New("the answer got lost")
	errUnknown     = errors.New("answer that the attempt is unknown")
)

func newRelay() *relay { return &relay{done: make(chan struct{})} }

func (r *relay) send(ctx context.Context, c *protocol.LogChunk) (*protocol.LogReply, error) {
	if _, err := protocol.Encode(c); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var fate error
	if len(r.fates) > 0 {
		fate, r.fates = r.fates[0], r.fates[1:]
	}
	switch {
	case errors.Is(fate, errUnknown):
		return &protocol.LogReply{Unknown: true}, nil
	case fate != nil && !errors.Is(fate, errLostAnswer):
		return nil, fate
	}
	reply := &protocol.LogReply{At: r.at, EOF: r.eof}
	asks := len(c.Data) == 0 && c.Gap == "" && !c.EOF
	if !asks && !r.eof && compare(c.From, r.at) == 0 {
		if c.Gap != "" {
			r.gaps = append(r.gaps, c.Gap)
			r.text.WriteString(gapMark)
		}
		r.text.Write(c.Data)
		r.at = c.To
		r.chunks++
		if c.EOF {
			r.eof = true
			close(r.done)
		}
		reply = &protocol.LogReply{At: r.at, EOF: r.eof, Taken: true}
	}
	return reply, fate
}

func (r *relay) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

var iris = Pod{
	Namespace: "train", Name: "iris-0", UID: "1", Node: "node-1",
	Ref: protocol.Ref{Job: "iris", Attempt: 1}, ContainerStarted: time.Unix(1, 0),
}

// follow runs Logs on the pods until stop is called, which waits for it.
func follow(t testing.TB, client corev1.PodsGetter, r *relay, pods ...Pod) (l *Logs, stop func()) {
	t.Helper()
	l, err := New(Options{Pods: client, Send: r.send, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	l.Sync(pods)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = l.Run(ctx) }()
	return l, func() { cancel(); <-stopped }
}

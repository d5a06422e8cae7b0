package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	_, err := New(Options{Relay: &url.URL{Scheme: "ftp", Host: "relay"}, Cluster: "Upper"})
	for _, words := range []string{`scheme "ftp"; expected https://`, `"Upper" is not a cluster's name`, "no node name", "no registry"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
	_, err = New(Options{
		Relay: &url.URL{Scheme: "https", Host: "relay"}, Cluster: "c", Seed: []byte("SUSECRET"), Kube: &rest.Config{}, Namespaces: []string{"train"},
		NodeName: "n", PodName: "p", PodNamespace: "azureml", GatewayListen: ":0", Registry: prometheus.NewRegistry(),
		Workload: workload.Options{LaunchImage: "i", GatewayURL: "g"}, PolicyFile: "policy.yaml",
	})
	if err == nil || !strings.Contains(err.Error(), "nkey seed") || strings.Contains(err.Error(), "SUSECRET") {
		t.Errorf("a bad seed: %v", err)
	}
}

// newTestLine is a line to a NATS server of the test's; clients counts its
// connections.
func newTestLine(t *testing.T, linger time.Duration) (l *line, clients func() int, run func() func()) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l = newLine(bus.Options{URL: ns.ClientURL(), Dialer: dialer, Log: zerolog.Nop()})
	l.linger = linger
	return l, ns.NumClients, func() func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// until polls what a server counts for itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not", what)
		}
	}
}

// TestLine: the connection is there while somebody holds it, and is one.
func TestLine(t *testing.T) {
	l, clients, run := newTestLine(t, 20*time.Millisecond)
	stop := run()
	defer stop()
	if _, err := l.Request(t.Context(), "a", nil); !errors.Is(err, errNoLine) {
		t.Errorf("a request on a closed line: %v", err)
	}
	if _, err := l.Subscribe("a", func() {}); !errors.Is(err, errNoLine) {
		t.Errorf("a subscription on a closed line: %v", err)
	}
	for range 2 {
		one, err := l.hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		two, err := l.hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		until(t, "connected", func() bool { return clients() == 1 })
		one()
		one() // counts once
		if _, err := l.current(); err != nil {
			t.Errorf("closed while it is held: %v", err)
		}
		two()
		until(t, "closed", func() bool { return clients() == 0 })
	}
}

// TestLineHoldEnds: who waits for a line that nobody opens can give up.
func TestLineHoldEnds(t *testing.T) {
	l, _, _ := newTestLine(t, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.hold(ctx); !errors.Is(err, context.Canceled) || l.held() {
		t.Errorf("%v, held %v", err, l.held())
	}
}

// TestTenure: work that began ends before the lease is given up, and does not
// begin where the candidacy is over.
func TestTenure(t *testing.T) {
	resigned := make(chan struct{})
	newTenure := func() *tenure {
		resigned = make(chan struct{})
		return &tenure{resign: sync.OnceFunc(func() { close(resigned) }), ended: make(chan struct{})}
	}
	is := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	late := newTenure()
	late.withdraw()
	if !is(resigned) || late.begin(func() {}) || late.wait() != nil {
		t.Error("a withdrawn candidate leads")
	}
	leads := newTenure()
	if !leads.begin(func() {}) {
		t.Fatal("a candidate does not lead")
	}
	leads.withdraw()
	if is(resigned) {
		t.Error("the lease was given up under the work")
	}
	refused := errors.New("refused")
	leads.end(refused)
	if !is(resigned) || !errors.Is(leads.wait(), refused) {
		t.Error("the end of the work did not give the lease up")
	}
	lost := newTenure()
	if lost.wait() != nil || lost.begin(func() {}) {
		t.Error("work began after the election ended")
	}
}

// TestSighting: what the logs room is told of a pod.
func TestSighting(t *testing.T) {
	start := metav1.NewTime(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "train", Name: "p", UID: "u", Annotations: map[string]string{
			workload.AnnotationJob: "iris", workload.AnnotationAttempt: "2", "batch.kubernetes.io/job-completion-index": "3"}},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "main"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: workload.MainContainer,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: start}}}}},
	}
	kept, err := slim(pod)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := sighting(kept.(*corev1.Pod))
	if !ok || p.Ref != (protocol.Ref{Job: "iris", Attempt: 2}) || p.Rank != 3 || p.Node != "n" || !p.Ended || !p.ContainerStarted.Equal(start.Time) {
		t.Errorf("%+v, %v", p, ok)
	}
	delete(pod.Annotations, workload.AnnotationJob)
	if _, ok := sighting(pod); ok {
		t.Error("somebody else's pod was taken")
	}
}

// TestSpawn: what ends before it is stopped has failed; what is stopped has
// ended when stop returns.
func TestSpawn(t *testing.T) {
	failed := make(chan error, 1)
	stop := spawn(t.Context(), "room", func(context.Context) error { return nil }, failed)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "room: it ended by itself") {
		t.Errorf("failed with %v", err)
	}
	if err := stop(t.Context()); err != nil && !strings.Contains(err.Error(), "by itself") {
		t.Error(err)
	}
	ended := false
	stop = spawn(t.Context(), "room", func(ctx context.Context) error { <-ctx.Done(); ended = true; return nil }, failed)
	if err := stop(t.Context()); err != nil || !ended {
		t.Errorf("stopped with %v, ended %v", err, ended)
	}
}

// TestHostPort: for the message that says how the relay is reached.
// TestServerVersion: the API server's, and nothing once the time is over: a
// leader that has to go does not wait for it.
func TestServerVersion(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"gitVersion":"v1.2.3"}`) }))
	defer api.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if got := serverVersion(ctx, client.Discovery()); got != "v1.2.3" {
		t.Errorf("it is %q", got)
	}
	cancel()
	if got := serverVersion(ctx, client.Discovery()); got != "" {
		t.Errorf("when it is over it is %q", got)
	}
}

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{"https://r": "r:443", "https://r:8443": "r:8443", "http://[::1]": "[::1]:80"} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(u); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
		if _, _, err := net.SplitHostPort(hostPort(u)); err != nil {
			t.Error(err)
		}
	}
}

// lease is one in memory, as its holder sees it.
type lease struct {
	resourcelock.Interface
	holder  string
	updates []string // holders that it was given
}

func (l *lease) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: l.holder}, nil, nil
}

func (l *lease) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.updates = append(l.updates, record.HolderIdentity)
	return nil
}

func (l *lease) Identity() string { return "me" }

// TestLock: a lease whose renewal failed is given up after the work under it
// has ended, and only where it is not another's by then.
func TestLock(t *testing.T) {
	free := resourcelock.LeaderElectionRecord{}
	for _, tc := range []struct {
		name  string
		ends  bool   // the work does, when it is told to
		taker string // who has the lease after that
		freed bool
	}{
		{"the work ends", true, "me", true},
		{"the work goes on", false, "me", false},
		{"another has taken it", true, "other", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &lease{holder: "me"}
			work := &tenure{resign: func() {}, ended: make(chan struct{})}
			work.begin(func() {
				if tc.ends {
					l.holder = tc.taker
					work.end(nil)
				}
			})
			locked := lock{Interface: l, t: work}
			if err := locked.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if !tc.ends {
				cancel()
			}
			defer cancel()
			err := locked.Update(ctx, free)
			if freed := slices.Contains(l.updates, ""); freed != tc.freed || freed != (err == nil) {
				t.Errorf("freed %v, error %v; want %v", freed, err, tc.freed)
			}
			if work.begin(func() {}) {
				t.Error("work began under a lease that is being given up")
			}
		})
	}
}

package proxies

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/protocol"
)

// kubelet lets all pods of a namespace succeed, and counts the Jobs that are
// created there, until stop.
func kubelet(t *testing.T, namespace string) (stop func() (created map[string]int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	jobs, err := world.site.Client().BatchV1().Jobs(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := world.site.Client().CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	created := make(map[string]int)
	var running sync.WaitGroup
	running.Go(func() {
		for event := range jobs.ResultChan() {
			if job, ok := event.Object.(*batchv1.Job); ok && event.Type == watch.Added {
				created[job.Annotations[workload.AnnotationJob]]++
			}
		}
	})
	running.Go(func() {
		for event := range pods.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type != watch.Added {
				continue
			}
			if err := succeed(ctx, *pod); err != nil && ctx.Err() == nil {
				t.Errorf("pod %s: %v", pod.Name, err)
			}
		}
	})
	return func() map[string]int {
		cancel()
		running.Wait()
		return created
	}
}

// under runs jobs all the time while does, and checks that each ran once and
// came to its end.
func (a *agent) under(does func()) {
	a.t.Helper()
	stop := kubelet(a.t, a.name)
	ctx, cancel := context.WithCancel(a.t.Context())
	var names []string
	submitted := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			name := fmt.Sprintf("%s-load-%d", a.name, len(names))
			if err := a.relay.submit(a.t.Context(), name, a.name); err != nil {
				submitted <- err
				return
			}
			names = append(names, name)
			time.Sleep(50 * time.Millisecond) // the rate of the load
		}
		submitted <- nil
	}()
	does()
	cancel()
	if err := <-submitted; err != nil {
		a.t.Fatal(err)
	}
	lost := make(map[string]bool)
	until(a.t, "end of all jobs", func() bool {
		clear(lost)
		for _, name := range names {
			job, err := a.relay.Job(a.t.Context(), name)
			if err != nil {
				a.t.Fatal(err)
			}
			if job.Status != protocol.Completed {
				lost[name] = true
			} else if job.Attempt != 1 {
				a.t.Errorf("%s took %d attempts", name, job.Attempt)
			}
		}
		return len(lost) == 0
	})
	created := stop()
	doubled := 0
	for _, name := range names {
		if created[name] != 1 {
			doubled++
			a.t.Errorf("%d Kubernetes Jobs for %s", created[name], name)
		}
	}
	a.t.Logf("%d jobs: %d lost, %d not run exactly once", len(names), len(lost), doubled)
}

// count counts the lines of the log with the text.
func (a *agent) count(text string) int { return strings.Count(a.log(), text) }

// told counts the lines with the text that are logged without being asked for.
func (a *agent) told(text string) (lines int) {
	for line := range strings.Lines(a.log()) {
		if strings.Contains(line, text) && !strings.Contains(line, `"level":"debug"`) {
			lines++
		}
	}
	return lines
}

const connectedLine = `"message":"connected to the relay"`

// TestProxyRestartUnderLoad: a proxy that dies and comes back loses no job and
// runs none twice.
func TestProxyRestartUnderLoad(t *testing.T) {
	t.Parallel()
	p := squid(t, "restart", squidOptions{}).start()
	a := newAgent(t, "restart", setup{proxy: p.url(), debug: true})
	a.connects()
	a.under(func() {
		for range 3 {
			before, lost := a.count(connectedLine), a.count("no connection to the relay")
			p.kill()
			until(t, "the loss is noticed", func() bool { return a.count("no connection to the relay") > lost+1 })
			p.start()
			back := time.Now()
			until(t, "the agent is back", func() bool { return a.count(connectedLine) > before })
			t.Logf("connected again %d ms after the proxy listened", time.Since(back).Milliseconds())
		}
	})
}

// TestProxyCutsIdle: a proxy that cuts what is idle for 5 s never cuts the
// agent.
func TestProxyCutsIdle(t *testing.T) {
	t.Parallel()
	p := squid(t, "idle", squidOptions{more: "read_timeout 5 seconds"}).start()
	a := newAgent(t, "idle", setup{proxy: p.url(), debug: true})
	a.connects()
	a.works()
	for range 4 {
		isCut(t, p)
	}
	a.works()
	if n := a.count(connectedLine); n != 1 {
		t.Errorf("connected %d times, want once", n)
	}
}

// TestProxyCutsAll: where no connection to the proxy lives longer than 5 s,
// whatever moves in it, no job is lost, and the log stays short: the lost
// connection is in it once a minute, and what waits for it once a cut. The kernel
// does the cutting: squid leaves tunnels alone in which something moves.
func TestProxyCutsAll(t *testing.T) {
	t.Parallel()
	p := squid(t, "lifetime", squidOptions{}).start()
	a := newAgent(t, "lifetime", setup{proxy: p.url(), debug: true})
	a.connects()
	const cuts = 5
	before := a.count(connectedLine)
	a.under(func() {
		for range cuts {
			time.Sleep(5 * time.Second) // what a connection lives at most
			connected := a.count(connectedLine)
			if p.cut() == 0 {
				t.Fatal("there was no connection to cut")
			}
			until(t, "the agent is back", func() bool { return a.count(connectedLine) > connected })
		}
	})
	again := a.count(connectedLine) - before
	if again < cuts {
		t.Errorf("connected again %d times, cut %d times", again, cuts)
	}
	lost, all := a.told("no connection to the relay"), a.told("the relay")
	t.Logf("connected again %d times; of %d lines in the log %d are about the connection", again, all, lost)
	if lost > 2 || all > 6+4*cuts {
		t.Errorf("cut %d times: the connection's loss is in the log %d times, and %d lines in all", cuts, lost, all)
	}
}

// cut resets all connections to the proxy at once, and says how many.
func (p *proxy) cut() (cut int) {
	p.t.Helper()
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	// A kernel without CONFIG_INET_DIAG_DESTROY cuts nothing and prints nothing.
	out, err := host.Exec(p.t.Context(), host.Space{Net: proxiesPlace}, "ss", "--kill", "--no-header", "--numeric", "--tcp", "state", "established", "sport", "=", ":"+port)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Count(string(out), "\n")
}

// isCut waits until the proxy cuts a tunnel in which nothing moves, which the
// relay would leave open for longer.
func isCut(t *testing.T, p *proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodConnect, "http://"+relayTarget, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Path, req.URL.Opaque = "", relayTarget
	auth := &http.Request{Header: make(http.Header)}
	auth.SetBasicAuth(proxyUser, proxyPassword)
	req.Header.Set("Proxy-Authorization", auth.Header.Get("Authorization"))
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT: %+v, %v", resp, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(9 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadByte(); err == nil || !strings.Contains(err.Error(), io.EOF.Error()) && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the proxy does not cut: %v", err)
	}
}

package apiserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trainrelay/trainrelay/agent"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/dial"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

// options are those of the whole agent in the plot, which joins the relay by a
// token.
func (p *plot) options(c *cloud) agent.DaemonOptions {
	p.Helper()
	made, err := c.Connect(p.Context(), "onprem")
	if err != nil {
		p.Fatal(err)
	}
	token := filepath.Join(p.TempDir(), "token")
	if err := os.WriteFile(token, []byte(made.Token), 0o600); err != nil {
		p.Fatal(err)
	}
	return agent.DaemonOptions{
		Agent: agent.Options{
			Relay: &url.URL{Scheme: "https", Host: c.addr}, Dial: dial.Options{RootCAs: []byte(c.config.CA)},
			Kube: p.config, Namespaces: []string{p.jobs}, NodeName: "elsewhere", PodName: "agent", PodNamespace: p.home,
			GatewayListen: "127.0.0.1:0", PolicyFile: policyFile(p.T, "{}"), Log: zerolog.Nop(),
			Workload: workload.Options{LaunchImage: "trainrelay-agent:dev", GatewayURL: "http://gateway:8080"},
		},
		Secret: "trainrelay-agent", JoinTokenFile: token, HealthListen: "127.0.0.1:0", Registry: prometheus.NewRegistry(),
	}
}

// daemon runs it.
func (p *plot) daemon(o agent.DaemonOptions) {
	p.Helper()
	d, err := agent.NewDaemon(o)
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	p.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			p.Error(err)
		}
	})
}

func joinsAndLeads(p *plot, _ bool) bool {
	c := newCloud(p.T, zerolog.Nop())
	p.daemon(p.options(c))
	return p.eventually(func() bool {
		seen, err := c.Cluster(p.Context(), "onprem")
		return err == nil && seen.Connectivity == v1.Connected
	})
}

// kubelet is that of a node of the plot's own, as the API server asks it for
// output. Only what the agent reads is there.
type kubelet struct {
	node      string
	following atomic.Int32 // who follows output
}

// newKubelet makes a node with a kubelet.
func (p *plot) newKubelet() *kubelet {
	p.Helper()
	k := &kubelet{node: "node-" + p.home}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/containerLogs/"+p.jobs+"/") {
			http.NotFound(w, r)
			return
		}
		k.following.Add(1)
		defer k.following.Add(-1)
		_, _ = io.WriteString(w, "2026-01-02T12:00:00.000000001Z hello\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	p.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		p.Fatal(err)
	}
	nodes := site.Client().CoreV1().Nodes()
	if _, err := nodes.Create(p.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.node}}, metav1.CreateOptions{}); err != nil {
		p.Fatal(err)
	}
	status := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%s}}}}`, host, port)
	if _, err := nodes.Patch(p.Context(), k.node, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		p.Fatal(err)
	}
	return k
}

// pod makes a pod, as soon as its namespace has its account.
func (p *plot) pod(pod *corev1.Pod) (made *corev1.Pod) {
	p.Helper()
	eventually(p.T, "pod", func(ctx context.Context) (bool, error) {
		var err error
		made, err = site.Client().CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err == nil, nil
	})
	return made
}

// trains has the agent run a job of the relay's on the kubelet's node.
func (p *plot) trains(c *cloud, k *kubelet) {
	p.Helper()
	p.daemon(p.options(c))
	if _, _, err := c.PutCompute(p.Context(), "onprem", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "onprem", Namespace: p.jobs}}); err != nil {
		p.Fatal(err)
	}
	start := unstarted("output")
	if _, _, err := c.Submit(p.Context(), start.Job); err != nil {
		p.Fatal(err)
	}
	runs(p.T, scheduleOn(p.T, p.jobs, start.Ref(), k.node)[0])
}

func shipsOutput(p *plot, _ bool) bool {
	c, k := newCloud(p.T, zerolog.Nop()), p.newKubelet()
	p.trains(c, k)
	return p.eventually(func() bool { return k.following.Load() > 0 })
}

// leavesNode: the leader ships what a node without an agent has, until there is
// one.
func leavesNode(p *plot, watchless bool) bool {
	c, k := newCloud(p.T, zerolog.Nop()), p.newKubelet()
	p.trains(c, k)
	if !p.within(patience, func() bool { return k.following.Load() > 0 }) {
		p.Fatal("the leader does not ship the output of a node without an agent")
	}
	p.settle(watchless)
	pod := p.pod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.home, Name: "its-agent", Labels: map[string]string{"app.kubernetes.io/name": "trainrelay-agent"}},
		Spec:       corev1.PodSpec{NodeName: k.node, Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	})
	report(p.T, *pod, corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}})
	return p.eventually(func() bool { return k.following.Load() == 0 })
}

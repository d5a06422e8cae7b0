package proxies

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/snapshot"
	"github.com/trainrelay/trainrelay/protocol"
)

// The proxies' user. The password has what a URL has to encode.
const (
	proxyUser     = "agent"
	proxyPassword = "s3:cr@t/w#rd"
	proxyUserInfo = "agent:s3%3Acr%40t%2Fw%23rd"
)

// setup is what an agent is told of its way out.
type setup struct {
	open    bool   // whether it is in the open place
	proxy   string // HTTPS_PROXY
	noProxy string // NO_PROXY
	at      *relay // nil for the world's
	relay   string // URL; empty for that of at
	nats    string // URL of the NATS server; empty for the relay's WebSocket
	ca      []byte // trusted for the relay; nil for the relay's own
	proxyCA []byte // trusted for the proxy
	debug   bool   // log everything
}

// agent is a running agent, which is a cluster of its own.
type agent struct {
	t         *testing.T
	relay     *relay
	name      string // of the cluster, its compute and its namespace
	ip        string
	gateway   int // port
	health    int
	command   command
	process   *host.Process
	submitted int
}

var ports atomic.Int32

// newAgent adds a cluster and runs its agent until the test ends.
func newAgent(t *testing.T, name string, s setup) *agent {
	t.Helper()
	n := int(ports.Add(2))
	a := &agent{t: t, relay: cmp.Or(s.at, world.relay), name: name, ip: agentsIP, gateway: 20000 + n, health: 20001 + n}
	newNamespace(t, name)
	newNamespace(t, name+"-home")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "trainrelay-agent", Namespace: name + "-home"}}
	if _, err := world.site.Client().CoreV1().Secrets(secret.Namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.run(s, a.relay.add(t, name, name))
	return a
}

// run starts the process.
func (a *agent) run(s setup, token string) {
	a.t.Helper()
	c := command{name: "agent-" + a.name, place: agentsPlace}
	if s.open {
		a.ip, c.place, c.hosts = openIP, openPlace, names
	}
	if s.relay == "" {
		s.relay = "https://" + a.relay.target
	}
	if s.ca == nil {
		s.ca = []byte(a.relay.ca)
	}
	dir := a.t.TempDir()
	c.env = []string{"HTTPS_PROXY=" + s.proxy, "NO_PROXY=" + s.noProxy}
	c.args = []string{
		world.bin("trainrelay-agent"), "run", "--relay-url", s.relay, "--join-token-file", writeFile(a.t, dir+"/token", token),
		"--relay-ca-file", writeFile(a.t, dir+"/ca.pem", string(s.ca)),
		"--namespaces", a.name, "--node-name", node, "--pod-name", "agent", "--pod-namespace", a.name + "-home",
		"--kubeconfig", world.kubeconfig(), "--launch-image", "example.com/launch:1",
		"--gateway-listen", fmt.Sprintf("%s:%d", a.ip, a.gateway), "--gateway-url", fmt.Sprintf("http://%s:%d", a.ip, a.gateway),
		"--health-listen", fmt.Sprintf("%s:%d", a.ip, a.health), "--log-format", "json",
		"--policy-file", writeFile(a.t, dir+"/policy.yaml", "{}"),
	}
	if s.nats != "" {
		c.args = append(c.args, "--nats-url", s.nats)
	}
	if s.debug {
		c.args = append(c.args, "--log-level", "debug")
	}
	if s.proxyCA != nil {
		c.args = append(c.args, "--proxy-ca-file", writeFile(a.t, dir+"/proxy-ca.pem", string(s.proxyCA)))
	}
	a.command = c
	process, err := world.start(a.t.Context(), c)
	if err != nil {
		a.t.Fatal(err)
	}
	a.process = process
	a.t.Cleanup(func() {
		a.stop()
		if a.t.Failed() {
			a.t.Logf("the log of agent %s:\n%s", a.name, a.log())
		}
	})
}

// stop ends the agent in order; it may be called again.
func (a *agent) stop() {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), patience)
	defer cancel()
	if err := a.process.Stop(ctx); err != nil {
		a.t.Error(err)
	}
}

// check runs trainrelay-agent check as the agent itself runs, and returns what
// it prints.
func (a *agent) check() (report string) {
	a.t.Helper()
	c := a.command
	c.name += fmt.Sprintf("-check-%d", ports.Add(1))
	c.args = slices.Clone(c.args)
	c.args[1] = "check"
	process, err := world.start(a.t.Context(), c)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	if err := process.Wait(ctx); err != nil {
		a.t.Fatal(err)
	}
	text, err := os.ReadFile(world.log(c.name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// log is all that the agent has logged.
func (a *agent) log() string {
	text, err := os.ReadFile(world.log("agent-" + a.name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// ready asks /readyz.
func (a *agent) ready() (ok bool, report string) {
	status, report := a.get(a.health, "/readyz", "")
	return status == http.StatusOK, report
}

// get asks the agent by HTTP; the status is 0 while it does not answer.
func (a *agent) get(port int, path, token string) (status int, body string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", a.ip, port, path), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// connects waits until the agent has synced once more.
func (a *agent) connects() {
	a.t.Helper()
	now := time.Now()
	until(a.t, "agent "+a.name+" is connected and ready", func() bool {
		ok, _ := a.ready()
		return ok && a.relay.connected(a.t, a.name, now.Add(-protocol.PresenceTimeout))
	})
}

// works takes a job through its whole life: submitted, claimed, created, its
// code fetched, its end reported.
func (a *agent) works() {
	a.t.Helper()
	name := a.submit()
	job := awaitJob(a.t, a.name, name)
	a.fetches(name)
	if err := succeed(a.t.Context(), awaitPod(a.t, job)); err != nil {
		a.t.Fatal(err)
	}
	a.completes(name)
}

// submit creates one more job for the agent.
func (a *agent) submit() (name string) {
	a.t.Helper()
	a.submitted++
	name = fmt.Sprintf("%s-%d", a.name, a.submitted)
	if err := a.relay.submit(a.t.Context(), name, a.name); err != nil {
		a.t.Fatal(err)
	}
	return name
}

// fetches gets the code of a job from the agent's gateway, as the launcher
// would, and unpacks it.
func (a *agent) fetches(name string) {
	a.t.Helper()
	status, body := a.code(name)
	if status != http.StatusOK {
		a.t.Fatalf("the gateway answers %d: %s", status, body)
	}
	if err := snapshot.Unpack(a.t.Context(), strings.NewReader(body), a.t.TempDir(), a.relay.code, snapshot.Limits{}); err != nil {
		a.t.Errorf("what the gateway gave is not the code: %v", err)
	}
}

// code asks the gateway for the code of a job.
func (a *agent) code(name string) (status int, body string) {
	a.t.Helper()
	job := awaitJob(a.t, a.name, name)
	var token string
	until(a.t, "token of "+name, func() bool {
		secret, err := world.site.Client().CoreV1().Secrets(a.name).Get(a.t.Context(), job.Name, metav1.GetOptions{})
		token = string(secret.Data["token"])
		return err == nil
	})
	return a.get(a.gateway, "/v1/attempts/"+name+"/1/code", token)
}

func (a *agent) completes(name string) {
	a.t.Helper()
	until(a.t, "end of "+name, func() bool {
		job, err := a.relay.Job(a.t.Context(), name)
		if err != nil {
			a.t.Fatal(err)
		}
		return job.Status == protocol.Completed && job.Attempt == 1
	})
}

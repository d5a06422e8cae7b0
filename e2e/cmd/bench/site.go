package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

const (
	namespace   = "bench"
	clusterName = "bench"
)

// site is an API server without nodes, and a relay and an agent as processes
// of their own, all on 127.0.0.1.
type site struct {
	o        options
	dir      string
	cluster  *cluster.Cluster
	kube     kubernetes.Interface
	relay    *client.Client
	workload workload.Options
	computes int
	seen     *sightings
	end      context.CancelFunc
}

func start(ctx context.Context, o options) (_ *site, err error) {
	dir, err := os.MkdirTemp("", "trainrelay-bench-")
	if err != nil {
		return nil, err
	}
	s := &site{
		o: o, dir: dir, computes: (o.Burst+roomOfCompute-1)/roomOfCompute + 1,
		workload: workload.Options{LaunchImage: "bench", GatewayURL: "http://127.0.0.1:1"},
		seen:     &sightings{waiting: map[string]chan time.Time{}},
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	s.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: filepath.Join(dir, "cluster"), Bin: filepath.Join(o.Repo, "bin", "cluster"),
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) },
	})
	if err != nil {
		return nil, err
	}
	config := s.cluster.Config()
	config.ContentType = "application/vnd.kubernetes.protobuf" // the fastest way that client-go has
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := s.kube.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	return s, s.startProduct(ctx)
}

// stop takes everything away.
func (s *site) stop() {
	if s.end != nil {
		s.end()
	}
	if s.cluster != nil {
		if err := s.cluster.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	os.RemoveAll(s.dir)
}

// startProduct starts the relay and the agent and makes the computes.
func (s *site) startProduct(ctx context.Context) error {
	bin := func(name string) string { return filepath.Join(s.o.Repo, "bin", name) }
	address, err := freeAddress()
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "relay")
	if _, err := s.cluster.Host().Start(ctx, host.Command{
		Name: "relay", Log: filepath.Join(s.dir, "relay.log"),
		Args: []string{bin("trainrelay"), "serve", "--data", data, "--listen", address, "--log-level", "warn"},
	}); err != nil {
		return err
	}
	var token v1.JoinToken
	var account client.Config
	if err := retry(ctx, func() (err error) {
		if account, err = client.LoadConfig(filepath.Join(data, "client.json")); err != nil {
			return err
		}
		account.URL = "https://" + address
		if s.relay, err = client.New(account, client.Options{UserAgent: "bench"}); err != nil {
			return err
		}
		token, err = s.relay.Connect(ctx, clusterName)
		return err
	}); err != nil {
		return fmt.Errorf("wait for the relay: %w", err)
	}
	for i := range s.computes {
		if _, _, err := s.relay.PutCompute(ctx, compute(i), v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: clusterName, Namespace: namespace}}); err != nil {
			return err
		}
	}
	join := filepath.Join(s.dir, "join-token")
	if err := os.WriteFile(join, []byte(token.Token), 0o600); err != nil {
		return err
	}
	// As the chart makes it, for the agent to fill.
	credentials := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "trainrelay-agent"}}
	if _, err := s.kube.CoreV1().Secrets("default").Create(ctx, credentials, metav1.CreateOptions{}); err != nil {
		return err
	}
	policy := filepath.Join(s.dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("{}\n"), 0o600); err != nil {
		return err
	}
	listen := [2]string{}
	for i := range listen {
		if listen[i], err = freeAddress(); err != nil {
			return err
		}
	}
	if _, err := s.cluster.Host().Start(ctx, host.Command{
		Name: "agent", Log: filepath.Join(s.dir, "agent.log"),
		Args: []string{bin("trainrelay-agent"), "run", "--relay-url", "https://" + address, "--join-token-file", join,
			"--relay-ca-file", filepath.Join(data, "tls", "ca.crt"), "--namespaces", namespace,
			"--kubeconfig", s.cluster.Kubeconfig(), "--pod-name", "bench", "--pod-namespace", "default", "--node-name", "bench",
			"--gateway-listen", listen[0], "--health-listen", listen[1],
			"--policy-file", policy, "--launch-image", s.workload.LaunchImage, "--gateway-url", s.workload.GatewayURL, "--log-level", "warn"},
	}); err != nil {
		return err
	}
	return retry(ctx, func() error {
		shown, err := s.relay.Cluster(ctx, clusterName)
		if err == nil && shown.Connectivity != v1.Connected {
			log, _ := os.ReadFile(filepath.Join(s.dir, "agent.log"))
			err = fmt.Errorf("the cluster is %s; the agent's log:\n%s", shown.Connectivity, log)
		}
		return err
	})
}

func compute(i int) string { return fmt.Sprintf("bench-%d", i) }

// retry tries for a minute.
func retry(ctx context.Context, do func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := do()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// sightings tell when the Job of each awaited name was first seen by a watch,
// the same one for both ways.
type sightings struct {
	mu      sync.Mutex
	waiting map[string]chan time.Time
}

func (s *sightings) expect(name string) <-chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan time.Time, 1)
	s.waiting[name] = c
	return c
}

func (s *sightings) saw(name string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.waiting[name]; ok {
		c <- now
		delete(s.waiting, name)
	}
}

func (s *site) watch(ctx context.Context) error {
	ctx, s.end = context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(s.kube, 0, informers.WithNamespace(namespace))
	jobs := factory.Batch().V1().Jobs().Informer()
	if _, err := jobs.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		if id, err := workload.IdentifyJob(obj.(*batchv1.Job)); err == nil {
			s.seen.saw(id.Ref.Job)
		}
	}}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), jobs.HasSynced) {
		return errors.New("the watch does not start")
	}
	return nil
}

// clear deletes all Jobs and waits until they are gone and, since the agent
// tells the relay of their end, until no job is unfinished.
func (s *site) clear(ctx context.Context) error {
	foreground := metav1.DeletePropagationForeground
	if err := s.kube.BatchV1().Jobs(namespace).DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &foreground}, metav1.ListOptions{}); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left, err := s.kube.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		computes, err := s.relay.Computes(ctx)
		if err != nil {
			return err
		}
		unfinished := 0
		for _, c := range computes {
			unfinished += c.Queued + c.Active
		}
		if len(left.Items) == 0 && unfinished == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d Jobs and %d unfinished jobs are left", len(left.Items), unfinished)
		}
	}
}

// rss reads the memory of the relay and the agent, in bytes.
func (s *site) rss() (map[string]float64, error) {
	all := map[string]float64{}
	for _, name := range []string{"relay", "agent"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cluster.Host().Process(name).PID()))
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return nil, err
		}
		all[name] = kib * 1024
	}
	return all, nil
}

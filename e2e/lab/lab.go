package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/trainrelay/trainrelay/e2e/cluster"
	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/e2e/images"
)

// What the picture in the package comment shows.
const (
	cloudIP      = "10.99.0.1" // the host
	cloudRelayIP = "10.99.0.2"
	cloudProxyIP = "10.99.0.3"
	siteProxyIP  = "10.88.0.3"
	relayHost    = "relay.trainrelay.test"
	relayPort    = 8443
	proxyPort    = 3128
)

// Names that the lab gives.
const (
	clusterName = "onprem-1"
	computeName = "onprem"
	trainSpace  = "train" // namespace of the compute
	agentSpace  = "azureml"
	// SklearnImage is the image of examples/iris.
	SklearnImage = images.PythonTag
)

// Options of a lab.
type Options struct {
	Repo string // the checkout
	Dir  string // the lab's own folder; made, and removed by Down
	// Detach lets the lab outlive this process.
	Detach bool
	Log    io.Writer // progress, for people
}

// Lab is a standing lab.
type Lab struct {
	Repo, Dir string
	// Client has all rights in the cluster.
	Client      kubernetes.Interface
	ClusterName string
	Compute     string
	Namespace   string // of the compute
	Image       string // with Python, scikit-learn and a shell
	RelayHost   string // the relay's name, which squid alone can resolve
	RelayAddr   string // its address on the cloud's side
	RelayPort   int
	CloudIP     string // this machine's address on the cloud's side
	ProxyAddr   string // the proxy's address on the site

	opts    Options
	cluster *cluster.Cluster
	host    *host.Host // takes back what the lab makes, too

	proxyPassword string
}

// Up makes whatever the lab needs that is not there yet.
func Up(ctx context.Context, opts Options) (_ *Lab, err error) {
	started := time.Now()
	say := opts.say
	if err := free(opts); err != nil {
		return nil, err
	}
	if err := packages(ctx, opts); err != nil {
		return nil, err
	}
	if err := Down(ctx, opts); err != nil {
		return nil, fmt.Errorf("take away what an earlier lab left: %w", err)
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	images, err := build(ctx, opts)
	if err != nil {
		return nil, err
	}
	l := &Lab{
		Repo: opts.Repo, Dir: opts.Dir, ClusterName: clusterName, Compute: computeName, Namespace: trainSpace,
		Image: SklearnImage, RelayHost: relayHost, RelayAddr: fmt.Sprintf("%s:%d", cloudRelayIP, relayPort), RelayPort: relayPort, CloudIP: cloudIP,
		ProxyAddr: fmt.Sprintf("%s:%d", siteProxyIP, proxyPort), opts: opts,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, Down(context.WithoutCancel(ctx), opts))
		}
	}()
	if err := l.startCluster(ctx); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		say("importing the images into the node")
		return l.cluster.Import(gctx, images...)
	})
	g.Go(func() error { return l.startCloud(gctx) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := l.guardNode(ctx); err != nil {
		return nil, err
	}
	if err := l.installAgent(ctx); err != nil {
		return nil, err
	}
	say("the lab stands after %.0f s", time.Since(started).Seconds())
	return l, nil
}

// Down takes away all that the lab of the folder made, whoever made it.
func Down(ctx context.Context, opts Options) error {
	// Its journal says what is left: it stays where something could not be taken away.
	if err := cluster.Down(ctx, filepath.Join(opts.Dir, "cluster")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(squidFolder(opts)), os.RemoveAll(opts.Dir))
}

// ProxiesFolder is where e2e/proxies keeps all of its own: not in the checkout,
// which the proxies' own users may not be let into.
const ProxiesFolder = "/run/trainrelay-proxies"

// Sweep takes away what killed runs of e2e and e2e/proxies left. What a living
// one uses is left alone.
func Sweep(ctx context.Context, opts Options) error {
	tests := opts
	tests.Dir = filepath.Join(opts.Repo, ".lab", "e2e")
	proxies := cluster.Down(ctx, filepath.Join(ProxiesFolder, "cluster"))
	if proxies == nil {
		proxies = os.RemoveAll(ProxiesFolder)
	}
	var errs []error
	for _, err := range []error{Down(ctx, tests), proxies} {
		if host.InUse(err) {
			opts.say("left alone: %v", err)
		} else {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

func (o Options) bin(name string) string { return filepath.Join(o.Repo, "bin", name) }

// say tells the user what is being done.
func (o Options) say(format string, args ...any) {
	fmt.Fprintf(o.Log, "lab: "+format+"\n", args...)
}

// secret makes a password.
func secret() string { return rand.Text() }

// Command trainrelay-agent runs in a Kubernetes cluster, as a DaemonSet in the
// namespace azureml: it takes training jobs from a relay and runs them.
//
// It reads these environment variables:
//
//	TRAINRELAY_…                   what a flag says, where it is not given, such as
//	                               TRAINRELAY_RELAY_URL for --relay-url
//	HTTPS_PROXY, HTTP_PROXY        the proxy to the relay, where no flag gives one; the
//	                               place for a URL with a password. https_proxy and
//	                               http_proxy win over them
//	NO_PROXY, no_proxy             what is reached directly
//	KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT
//	                               the API server, set by Kubernetes; always reached
//	                               directly
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/trainrelay/trainrelay/agent"
	"github.com/trainrelay/trainrelay/agent/join"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/internal/process"
	"github.com/trainrelay/trainrelay/internal/version"
)

const name = "trainrelay-agent"

type grammar struct {
	Run     run              `cmd:"" help:"Run the agent."`
	Check   check            `cmd:"" help:"Try everything that the agent depends on, and say what is wrong and how to mend it."`
	Version kong.VersionFlag `help:"Print the version and exit."`
}

// run is the command line of "trainrelay-agent run".
type run struct {
	RelayURL      *url.URL `required:"" placeholder:"https://HOST[:PORT]" help:"The relay."`
	NATSURL       *url.URL `name:"nats-url" placeholder:"tls://HOST[:PORT]" help:"The relay's NATS server, where it has one that agents reach directly; by default they connect to the relay itself."`
	RelayCAFile   string   `name:"relay-ca-file" placeholder:"FILE" help:"Certificates (PEM) to trust for the relay, beside the system's and what it says itself once the cluster has joined."`
	Secret        string   `default:"trainrelay-agent" placeholder:"NAME" help:"The Secret in this pod's namespace where the cluster's credentials are kept; it has to exist (default ${default})."`
	JoinTokenFile string   `placeholder:"FILE" help:"The token that 'trainrelay cluster connect' gave; it is used once, and may be missing after that."`

	HTTPSProxy  string `name:"https-proxy" placeholder:"URL" help:"The proxy to the relay. One with a password belongs into HTTPS_PROXY, which nobody sees in a list of processes."`
	HTTPProxy   string `name:"http-proxy" placeholder:"URL" help:"The proxy, where no --https-proxy is given."`
	NoProxy     string `name:"no-proxy" placeholder:"LIST" help:"Hosts, .suffixes and CIDR ranges that are reached directly."`
	ProxyCAFile string `name:"proxy-ca-file" placeholder:"FILE" help:"Certificates (PEM) to trust for an https proxy, and for one that intercepts TLS."`

	Namespaces   []string `required:"" placeholder:"NAME,..." help:"Namespaces where jobs may run."`
	NodeName     string   `required:"" placeholder:"NAME" help:"The node of this pod."`
	PodName      string   `required:"" placeholder:"NAME" help:"This pod."`
	PodNamespace string   `default:"azureml" placeholder:"NAME" help:"The namespace of this pod (default ${default})."`
	Kubeconfig   string   `type:"existingfile" placeholder:"FILE" help:"How to reach the API server, outside of a cluster."`

	GatewayListen string `default:":8080" placeholder:"ADDRESS" help:"Where training pods fetch their code (default ${default})."`
	GatewayURL    string `required:"" name:"gateway-url" placeholder:"URL" help:"The gateway as training pods reach it."`
	HealthListen  string `default:":8081" placeholder:"ADDRESS" help:"Where /healthz, /readyz and /metrics are (default ${default})."`

	LaunchImage     string   `required:"" placeholder:"IMAGE" help:"The image with trainrelay-launch, which fetches code in training pods."`
	ImagePullSecret []string `placeholder:"NAME" help:"Secrets of the jobs' namespaces to pull images with."`
	PolicyFile      string   `default:"/etc/trainrelay/policy/policy.yaml" placeholder:"FILE" help:"What the cluster's admin lets jobs be; read anew for each job (default ${default})."`
	ExtensionFile   string   `default:"/etc/trainrelay/extension/extension.yaml" placeholder:"FILE" help:"The settings of the extension that were applied with the chart; missing where none were (default ${default})."`
	MaxUnscheduled  int      `default:"0" placeholder:"N" help:"Jobs of a compute that may wait for a node at a time (default 16)."`
	MaxLive         int      `default:"0" placeholder:"N" help:"Unfinished jobs of a compute at a time (default 500)."`

	LogLevel  string `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (default ${default})."`
	LogFormat string `placeholder:"FORMAT" help:"json or console; by default console on a terminal."`
}

func main() {
	var g grammar
	parser := kong.Must(&g, options()...)
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if command.Command() != "check" {
		parser.FatalIfErrorf(g.Run.run())
		return
	}
	ok, err := g.Check.do(context.Background(), os.Stdout, os.Getenv)
	parser.FatalIfErrorf(err)
	if !ok {
		parser.Exit(1)
	}
}

func options() []kong.Option {
	return []kong.Option{
		kong.Name(name), kong.Description("The agent of a Kubernetes cluster that trains for a relay."),
		kong.Vars{"version": version.String()}, kong.ShortUsageOnError(), kong.DefaultEnvars("TRAINRELAY"),
	}
}

func (r *run) run() error {
	log, err := process.NewLogger(process.LogOptions{Out: os.Stderr, Level: r.LogLevel, Format: r.LogFormat})
	if err != nil {
		return err
	}
	// What client-go says goes where everything goes.
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(log.With().Str("room", "client-go").Logger())))
	options, err := r.options(os.Getenv)
	if err != nil {
		return err
	}
	options.Agent.Log = log
	options.Registry = prometheus.NewRegistry()
	options.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := process.RegisterBuild(options.Registry, name); err != nil {
		return err
	}
	daemon, err := agent.NewDaemon(options)
	if err != nil {
		return err
	}
	ctx, stop := process.Signals(context.Background())
	defer stop()
	if err := daemon.Run(ctx); err != nil {
		return err
	}
	log.Info().AnErr("because", context.Cause(ctx)).Msg("agent has stopped")
	return nil
}

// options reads the files that the flags name.
func (r *run) options(getenv func(string) string) (agent.DaemonOptions, error) {
	o := agent.Options{
		Relay: r.RelayURL, NATS: r.NATSURL, Namespaces: r.Namespaces,
		NodeName: r.NodeName, PodName: r.PodName, PodNamespace: r.PodNamespace,
		GatewayListen:  r.GatewayListen,
		Workload:       workload.Options{LaunchImage: r.LaunchImage, GatewayURL: r.GatewayURL, ImagePullSecrets: r.ImagePullSecret},
		PolicyFile:     r.PolicyFile,
		ExtensionFile:  r.ExtensionFile,
		MaxUnscheduled: r.MaxUnscheduled, MaxLive: r.MaxLive,
		Dial: dial.FromEnviron(getenv), InCluster: r.Kubeconfig == "",
	}
	var err error
	o.Dial.HTTPSProxy = cmp.Or(r.HTTPSProxy, o.Dial.HTTPSProxy)
	o.Dial.HTTPProxy = cmp.Or(r.HTTPProxy, o.Dial.HTTPProxy)
	o.Dial.NoProxy = cmp.Or(r.NoProxy, o.Dial.NoProxy)
	for _, file := range []struct {
		path string
		into *[]byte
	}{{r.RelayCAFile, &o.Dial.RootCAs}, {r.ProxyCAFile, &o.Dial.ProxyCA}} {
		if file.path == "" {
			continue
		}
		if *file.into, err = os.ReadFile(file.path); err != nil {
			return agent.DaemonOptions{}, err
		}
	}
	// A proxy that looks into TLS answers in the relay's place: the relay's own
	// word is signed.
	o.Dial.RootCAs = join.Authorities(o.Dial.RootCAs, string(o.Dial.ProxyCA))
	if o.Kube, err = r.kube(); err != nil {
		return agent.DaemonOptions{}, fmt.Errorf("find the Kubernetes API server: %w; outside of a cluster, give --kubeconfig", err)
	}
	return agent.DaemonOptions{
		Agent: o, Secret: r.Secret, JoinTokenFile: r.JoinTokenFile, HealthListen: r.HealthListen,
	}, nil
}

func (r *run) kube() (*rest.Config, error) {
	if r.Kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", r.Kubeconfig)
	}
	return rest.InClusterConfig()
}

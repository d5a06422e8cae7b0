package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/dial"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type clusterConnect struct {
	target
	ComputeNamespace []string `help:"A namespace that jobs may run in; it must exist. Repeatable. Without any, those of the installation that is there stay." placeholder:"NS"`
	RelayURL         string   `name:"relay-url" help:"Where the cluster reaches the relay, if not where this machine does." placeholder:"URL"`
	ProxyHTTPS       string   `name:"proxy-https" help:"The proxy on the cluster's way to the relay, with user and password if it wants them." placeholder:"URL"`
	ProxyHTTP        string   `name:"proxy-http" help:"The proxy where there is none for https." placeholder:"URL"`
	ProxySkipRange   string   `name:"proxy-skip-range" help:"Hosts, suffixes and CIDRs that the agent reaches without it, separated by commas." placeholder:"LIST"`
	ProxyCert        string   `name:"proxy-cert" help:"Certificates, PEM, to trust for the proxy: of its own TLS, or where it intercepts TLS." placeholder:"FILE"`
	helm
	output
}

func (c *clusterConnect) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	relay, cfg, err := a.connectWith()
	if err != nil {
		return err
	}
	// What can be wrong is looked at before a token is made, which voids the
	// one before.
	values, err := c.values(name, cfg)
	if err != nil {
		return err
	}
	if c.Apply {
		if err := c.find(a.io.Getenv); err != nil {
			return err
		}
	}
	// Of --apply the token is not printed, and without these the values are.
	parts := !c.Apply && (c.Format != "" || c.Query != "")
	if parts {
		values.Join.Token = madeUp
		shown := connected{Cluster: v1.Cluster{Name: name}, Token: madeUp, Values: values}
		if err := c.shows(shown, connectedColumns, "leave both out, or print the token alone: --query join_token -o tsv"); err != nil {
			return err
		}
	}
	joined, err := relay.Connect(ctx, name)
	if err != nil {
		return err
	}
	values.Join.Token = joined.Token
	a.warnLoopback(values.Relay.URL)
	if c.Apply {
		cluster, err := c.install(ctx, a, relay, joined, values)
		if err != nil {
			return err
		}
		return a.print(c.output, cluster, formatJSON, clusterDetails)
	}
	until := joined.Expires.Local().Format("15:04")
	if parts {
		a.notef("cluster %s: its agent can join until %s, once.", name, until)
		return a.print(c.output, connected{Cluster: joined.Cluster, Token: joined.Token, Expires: joined.Expires, Values: values}, formatJSON, connectedColumns)
	}
	line, err := c.line(values)
	if err != nil {
		return err
	}
	a.notef("Run this until %s, once, where helm reaches cluster %s and the chart of this version is; --apply does so from here.", until, name)
	a.notef("It has the join token in it. Then: %s", nextStep(name, c.ComputeNamespace))
	if _, err := fmt.Fprint(a.io.Out, line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// connected is what is printed for scripts.
type connected struct {
	Cluster v1.Cluster   `json:"cluster"`
	Token   string       `json:"join_token"`
	Expires time.Time    `json:"expires"`
	Values  *chartValues `json:"values"`
}

var connectedColumns = []column{{"Name", "cluster.name"}, {"JoinToken", "join_token"}, {"Expires", "expires"}}

// chartValues are those of the agent's chart that say where it belongs.
type chartValues struct {
	Relay struct {
		URL      string `json:"url" yaml:"url"`
		CABundle string `json:"caBundle,omitempty" yaml:"caBundle,omitempty"`
	} `json:"relay" yaml:"relay"`
	Cluster struct {
		Name string `json:"name" yaml:"name"`
	} `json:"cluster" yaml:"cluster"`
	ComputeNamespaces []string `json:"computeNamespaces,omitempty" yaml:"computeNamespaces,omitempty"`
	Join              struct {
		Token string `json:"token" yaml:"token"`
	} `json:"join" yaml:"join"`
	Proxy *proxyValues `json:"proxy,omitempty" yaml:"proxy,omitempty"`
}

type proxyValues struct {
	HTTPS    string `json:"https,omitempty" yaml:"https,omitempty"`
	HTTP     string `json:"http,omitempty" yaml:"http,omitempty"`
	NoProxy  string `json:"noProxy,omitempty" yaml:"noProxy,omitempty"`
	CABundle string `json:"caBundle,omitempty" yaml:"caBundle,omitempty"`
}

// values checks what was typed, and makes the chart's values of it.
func (c *clusterConnect) values(name string, cfg client.Config) (*chartValues, error) {
	v := new(chartValues)
	v.Cluster.Name, v.ComputeNamespaces = name, c.ComputeNamespace
	v.Relay.URL, v.Relay.CABundle = cfg.URL, cfg.CA
	if c.RelayURL != "" {
		at, err := url.Parse(c.RelayURL)
		if err != nil || at.Scheme != "https" || at.Hostname() == "" || at.User != nil || strings.Trim(at.Path, "/") != "" || at.RawQuery != "" {
			return nil, usage{errors.New("--relay-url: not the URL of a relay"), "it is https://HOST or https://HOST:PORT"}
		}
		v.Relay.URL = "https://" + at.Host
	}
	proxy := proxyValues{HTTPS: c.ProxyHTTPS, HTTP: c.ProxyHTTP, NoProxy: c.ProxySkipRange}
	if c.ProxyCert != "" {
		pem, err := os.ReadFile(c.ProxyCert)
		if err != nil {
			return nil, usage{fmt.Errorf("--proxy-cert: %w", err), ""}
		}
		proxy.CABundle = string(pem)
	}
	_, err := dial.New(dial.Options{HTTPSProxy: proxy.HTTPS, HTTPProxy: proxy.HTTP, NoProxy: proxy.NoProxy, ProxyCA: []byte(proxy.CABundle)})
	if err != nil {
		return nil, usage{err, "see --proxy-https, --proxy-http, --proxy-skip-range and --proxy-cert"}
	}
	if proxy != (proxyValues{}) {
		v.Proxy = &proxy
	}
	return v, nil
}

// hide takes the secrets among the values out of a text.
func (v *chartValues) hide(text string) string {
	secrets := []string{v.Join.Token, "…"}
	if v.Proxy != nil {
		for _, proxy := range []string{v.Proxy.HTTPS, v.Proxy.HTTP} {
			if proxy != "" {
				secrets = append(secrets, proxy, "…")
			}
		}
	}
	return strings.NewReplacer(secrets...).Replace(text)
}

// text is the values as helm reads them.
func (v *chartValues) text() ([]byte, error) {
	text, err := yaml.MarshalWithOptions(v, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("the chart's values: %w", err)
	}
	return text, nil
}

// nextStep is what makes a cluster useful.
func nextStep(cluster string, namespaces []string) string {
	namespace := "NAMESPACE"
	if len(namespaces) > 0 {
		namespace = namespaces[0]
	}
	return fmt.Sprintf("trainrelay compute attach -n NAME --cluster %s --namespace %s", cluster, namespace)
}

// warnLoopback warns of a URL that is another machine from elsewhere.
func (a *app) warnLoopback(relayURL string) {
	at, err := url.Parse(relayURL)
	if err == nil && (at.Hostname() == "localhost" || net.ParseIP(at.Hostname()).IsLoopback()) {
		a.notef("warning: from within a cluster, %s is not this machine: start the relay with --host NAME, and give --relay-url https://NAME:PORT", at.Hostname())
	}
}

package otlp

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"

	"github.com/trainrelay/trainrelay/internal/testkit"
)

// record is a log record as the Collector's exporters get it.
type record struct {
	service    string
	body       string
	time       time.Time
	attributes map[string]any
}

// collector is a real Collector: its OTLP receiver, its pipeline, and an exporter
// that remembers what it is given.
type collector struct {
	t      *testing.T
	config string
	stop   func()

	mu      sync.Mutex
	records []record
	token   []string // Authorization of the last request
	news    chan struct{}
}

// collect makes a Collector that listens with TLS at an address.
func collect(t *testing.T, addr string, authority *testkit.Authority) *collector {
	t.Helper()
	dir := t.TempDir()
	certificate, key := authority.Issue("127.0.0.1")
	for name, text := range map[string][]byte{"tls.crt": certificate, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &collector{t: t, news: make(chan struct{}, 1), config: fmt.Sprintf(`yaml:
receivers:
  otlp:
    protocols:
      http:
        endpoint: %[1]s
        include_metadata: true
        tls: {cert_file: %[2]s/tls.crt, key_file: %[2]s/tls.key}
exporters:
  memory:
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [memory]}
`, addr, dir)}
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

// start runs the Collector until stop, and returns once it receives.
func (c *collector) start() {
	c.t.Helper()
	col, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: func() (otelcol.Factories, error) {
			receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
			if err != nil {
				return otelcol.Factories{}, err
			}
			exporters, err := otelcol.MakeFactoryMap(c.exporter())
			return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: telemetry.NewFactory(func() component.Config { return &struct{}{} })}, err
		},
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs: []string{c.config}, ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
		DisableGracefulShutdown: true,
		SkipSettingGRPCLogger:   true,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- col.Run(context.Background()) }()
	for col.GetState() != otelcol.StateRunning {
		select {
		case err := <-done:
			c.t.Fatalf("the Collector does not start: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	c.stop = sync.OnceFunc(func() {
		col.Shutdown()
		if err := <-done; err != nil {
			c.t.Errorf("the Collector: %v", err)
		}
	})
}

// exporter remembers.
func (c *collector) exporter() exporter.Factory {
	return exporter.NewFactory(component.MustNewType("memory"),
		func() component.Config { return &struct{}{} },
		exporter.WithLogs(func(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
			return memory{c}, nil
		}, component.StabilityLevelStable))
}

type memory struct{ *collector }

func (memory) Start(context.Context, component.Host) error { return nil }
func (memory) Shutdown(context.Context) error              { return nil }
func (memory) Capabilities() consumer.Capabilities         { return consumer.Capabilities{} }

func (m memory) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = client.FromContext(ctx).Metadata.Get("Authorization")
	for _, resource := range logs.ResourceLogs().All() {
		service, _ := resource.Resource().Attributes().Get("service.name")
		for _, scope := range resource.ScopeLogs().All() {
			for _, r := range scope.LogRecords().All() {
				m.records = append(m.records, record{service.Str(), r.Body().Str(), r.Timestamp().AsTime(), r.Attributes().AsRaw()})
			}
		}
	}
	select {
	case m.news <- struct{}{}:
	default:
	}
	return nil
}

// wait waits until so many records have come, and returns them.
func (c *collector) wait(n int) []record {
	c.t.Helper()
	for {
		c.mu.Lock()
		got := c.records
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-c.news:
		case <-time.After(time.Minute):
			c.t.Fatalf("%d records came of %d, and no more", len(got), n)
		}
	}
}

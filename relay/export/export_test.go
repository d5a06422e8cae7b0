package export

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is an OTLP receiver that answers as it is told.
type collector struct {
	*httptest.Server
	answer func(request int) (status int, body []byte)

	mu       sync.Mutex
	requests int
	headers  http.Header // of the last request
	taken    []*logspb.LogRecord
	service  string
}

func collect(t *testing.T, answer func(request int) (int, []byte)) *collector {
	t.Helper()
	c := &collector{answer: answer}
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zip, err := gzip.NewReader(r.Body)
		if err != nil || r.URL.Path != "/v1/logs" {
			t.Errorf("%s: %v", r.URL, err)
			return
		}
		body, err := io.ReadAll(zip)
		sent := new(collectorpb.ExportLogsServiceRequest)
		if err == nil {
			err = proto.Unmarshal(body, sent)
		}
		if err != nil {
			t.Error(err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests++
		c.headers = r.Header
		status, text := http.StatusOK, []byte(nil)
		if c.answer != nil {
			status, text = c.answer(c.requests)
		}
		if status == http.StatusOK {
			for _, resource := range sent.ResourceLogs {
				c.service = resource.Resource.Attributes[0].Value.GetStringValue()
				for _, scope := range resource.ScopeLogs {
					c.taken = append(c.taken, scope.LogRecords...)
				}
			}
		}
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) bodies() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.taken {
		all = append(all, r.Body.GetStringValue())
	}
	return all
}

// source gives out runs, and waits; kept is closed once the last one's place is
// kept.
type source struct {
	runs []Run

	mu   sync.Mutex
	at   Place
	kept chan struct{}
}

func (s *source) Hold(ctx context.Context, work func(context.Context) error) error { return work(ctx) }

func (s *source) Runs(ctx context.Context) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		s.mu.Lock()
		runs := s.runs[s.at.To:]
		s.mu.Unlock()
		for _, run := range runs {
			if !yield(run, nil) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (s *source) Keep(_ context.Context, place Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = place
	if place.To == uint64(len(s.runs)) {
		close(s.kept)
	}
	return nil
}

var (
	written = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	taken   = written.Add(time.Second)
)

// sourceOf has a run of each text, a line each.
func sourceOf(texts ...string) *source {
	s := &source{kept: make(chan struct{})}
	for i, text := range texts {
		seq := uint64(i + 1)
		s.runs = append(s.runs, Run{
			Lines: []Line{{Time: written, Cluster: "c", Job: "j", Attempt: 2, Rank: 3, Text: []byte(text)}},
			Place: Place{From: seq + 1, To: seq}, Taken: taken, Behind: uint64(len(texts)) - seq,
		})
	}
	return s
}

func exporterOf(t *testing.T, c *collector, s *source) *Exporter {
	t.Helper()
	e, err := New(Options{
		Target: Target{Endpoint: c.URL, Headers: http.Header{"Authorization": {"Bearer x"}}, TLS: c.Client().Transport.(*http.Transport).TLSClientConfig},
		Source: s, Log: zerolog.New(zerolog.NewTestWriter(t)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// export runs an exporter until the source's last place is kept.
func export(t *testing.T, c *collector, s *source) *Exporter {
	t.Helper()
	e := exporterOf(t, c, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	<-s.kept
	cancel()
	<-done
	return e
}

func TestRecords(t *testing.T) {
	c := collect(t, nil)
	s := sourceOf("hello", "bad \xff bytes", "")
	s.runs[2].Lines[0] = Line{Job: "j", Gap: "rotated"}
	e := export(t, c, s)
	if diff := cmp.Diff([]string{"hello", "bad � bytes", "output lost: rotated"}, c.bodies()); diff != "" {
		t.Error(diff)
	}
	if c.service != "trainrelay" || c.headers.Get("Authorization") != "Bearer x" || c.headers.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("service %q, headers %v", c.service, c.headers)
	}
	attributes := func(r *logspb.LogRecord) (all []string) {
		for _, a := range r.Attributes {
			all = append(all, fmt.Sprintf("%s=%s%d%v", a.Key, a.Value.GetStringValue(), a.Value.GetIntValue(), a.Value.GetBoolValue()))
		}
		return all
	}
	if diff := cmp.Diff([]string{"trainrelay.job=j0false", "trainrelay.attempt=2false", "trainrelay.rank=3false", "k8s.cluster.name=c0false"}, attributes(c.taken[0])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"trainrelay.job=j0false", "trainrelay.attempt=0false", "trainrelay.rank=0false", "trainrelay.gap=0true"}, attributes(c.taken[2])); diff != "" {
		t.Error(diff)
	}
	first := c.taken[0]
	if first.TimeUnixNano != uint64(written.UnixNano()) || first.ObservedTimeUnixNano != uint64(taken.UnixNano()) || first.SeverityNumber != 0 || c.taken[2].TimeUnixNano != 0 {
		t.Errorf("%v", first)
	}
	if n := testutil.ToFloat64(e.metrics.lines); n != 3 {
		t.Errorf("%v lines counted", n)
	}
}

// TestRefusals: what may do later is sent again until it is accepted; what never
// will is left out, counted, and holds nothing up.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		status   int
		requests int
		lines    []string
	}{
		{http.StatusBadRequest, 1, nil},
		{http.StatusRequestEntityTooLarge, 1, nil},
		{http.StatusRequestTimeout, 3, []string{"a"}},
		{http.StatusTooManyRequests, 3, []string{"a"}},
		{http.StatusInternalServerError, 3, []string{"a"}},
		{http.StatusServiceUnavailable, 3, []string{"a"}},
		{http.StatusFound, 3, []string{"a"}},
	} {
		t.Run(http.StatusText(tc.status), func(t *testing.T) {
			c := collect(t, func(request int) (int, []byte) {
				if request < 3 {
					return tc.status, []byte("words\nof the collector")
				}
				return http.StatusOK, nil
			})
			e := export(t, c, sourceOf("a"))
			if diff := cmp.Diff(tc.lines, c.bodies()); diff != "" || c.requests != tc.requests {
				t.Errorf("%d requests, %s", c.requests, diff)
			}
			refused := float64(1 - len(tc.lines))
			if got := testutil.ToFloat64(e.metrics.refused); got != refused {
				t.Errorf("%v lines counted as refused", got)
			}
			if got := testutil.ToFloat64(e.metrics.batches.WithLabelValues("failed")); got != float64(tc.requests-1) {
				t.Errorf("%v tries counted as failed", got)
			}
		})
	}
}

// TestPartialSuccess: a collector that takes a batch without some lines is not
// asked again.
func TestPartialSuccess(t *testing.T) {
	answer, err := proto.Marshal(&collectorpb.ExportLogsServiceResponse{PartialSuccess: &collectorpb.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "too old"}})
	if err != nil {
		t.Fatal(err)
	}
	c := collect(t, func(int) (int, []byte) { return http.StatusOK, answer })
	e := export(t, c, sourceOf("a", "b"))
	if c.requests != 1 || testutil.ToFloat64(e.metrics.lines) != 1 || testutil.ToFloat64(e.metrics.refused) != 1 {
		t.Errorf("%d requests, %v lines, %v refused", c.requests, testutil.ToFloat64(e.metrics.lines), testutil.ToFloat64(e.metrics.refused))
	}
}

// TestBatches: requests are bounded, however many lines come at once, and in
// order.
func TestBatches(t *testing.T) {
	var want []string
	for n := range 3*maxLines + 1 {
		want = append(want, fmt.Sprint(n))
	}
	s := sourceOf(want...)
	for i := range s.runs[0].Lines {
		s.runs[0].Lines[i].Text = []byte(want[0])
	}
	one := sourceOf("x")
	one.runs[0].Lines = nil
	for _, run := range s.runs {
		one.runs[0].Lines = append(one.runs[0].Lines, run.Lines...)
	}
	for name, s := range map[string]*source{"of many runs": s, "of one run": one} {
		c := collect(t, nil)
		export(t, c, s)
		if !slices.Equal(want, c.bodies()) || c.requests < 4 {
			t.Errorf("%s: %d lines in %d requests", name, len(c.bodies()), c.requests)
		}
	}
	c := collect(t, nil)
	long := strings.Repeat("x", 64<<10)
	export(t, c, sourceOf(slices.Repeat([]string{long}, 40)...))
	if c.requests < 3 || len(c.bodies()) != 40 {
		t.Errorf("%d long lines in %d requests", len(c.bodies()), c.requests)
	}
}

// TestStopWaitsForTheBatch that is under way: it is accepted, so its place has to
// be kept, or it comes twice.
func TestStopWaitsForTheBatch(t *testing.T) {
	asked, stopped := make(chan struct{}), make(chan struct{})
	c := collect(t, func(int) (int, []byte) {
		close(asked)
		<-stopped
		return http.StatusOK, nil
	})
	s := sourceOf("a")
	e := exporterOf(t, c, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	<-asked
	cancel()
	close(stopped)
	<-done
	if s.at.To != 1 {
		t.Errorf("the place is %+v", s.at)
	}
}

func TestDroppedIsCounted(t *testing.T) {
	s := sourceOf("a", "b")
	s.runs[1].Dropped = 7
	e := export(t, collect(t, nil), s)
	if got := testutil.ToFloat64(e.metrics.dropped); got != 7 {
		t.Errorf("%v", got)
	}
	if got := testutil.ToFloat64(e.metrics.behind); got != 0 {
		t.Errorf("%v behind", got)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://c:4318":                "https://c:4318/v1/logs",
		"https://c:4318/":               "https://c:4318/v1/logs",
		"https://loki/otlp":             "https://loki/otlp/v1/logs",
		"https://loki/otlp/v1/logs":     "https://loki/otlp/v1/logs",
		"http://127.0.0.1:4318":         "http://127.0.0.1:4318/v1/logs",
		"http://localhost:4318/v1/logs": "http://localhost:4318/v1/logs",
		"http://[::1]:4318":             "http://[::1]:4318/v1/logs",
		"http://c:4318":                 "",
		"c:4318":                        "",
		"grpc://c:4317":                 "",
		"https://user:secret@c":         "",
		"https://c?key=secret":          "",
		"":                              "",
	} {
		got, err := parseEndpoint(endpoint)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", endpoint, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

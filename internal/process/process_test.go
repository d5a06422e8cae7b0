package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestStack(t *testing.T) {
	var s Stack
	var order []string
	push := func(name string, err error) {
		s.Push(name, func(context.Context) error {
			order = append(order, name)
			return err
		})
	}
	full := errors.New("disk full")
	push("store", full)
	push("server", nil)
	push("front", errors.New("still busy"))

	err := s.Stop(t.Context())
	if diff := cmp.Diff([]string{"front", "server", "store"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if !errors.Is(err, full) || err.Error() != "stop front: still busy\nstop store: disk full" {
		t.Errorf("error is %v", err)
	}
	if err := s.Stop(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("the second time: %v, %v", err, order)
	}
}

func TestRollback(t *testing.T) {
	failed := errors.New("port taken")
	start := func(ctx context.Context, fail error) (stopped bool, err error) {
		var s Stack
		defer s.Rollback(ctx, &err)
		s.Push("store", func(ctx context.Context) error {
			stopped = true
			return ctx.Err()
		})
		return stopped, fail
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if stopped, err := start(cancelled, failed); !stopped || err == nil || err.Error() != failed.Error() {
		t.Errorf("stopped %v, %v", stopped, err)
	}
	if stopped, err := start(t.Context(), nil); stopped || err != nil {
		t.Errorf("stopped %v, %v", stopped, err)
	}
}

// TestSignals runs itself as a child that must outlive the first signal and
// not the second.
func TestSignals(t *testing.T) {
	if os.Getenv("TEST_SIGNALS_CHILD") != "" {
		ctx, stop := Signals(context.Background())
		defer stop()
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		_, _ = io.Copy(io.Discard, os.Stdin) // a stop that hangs, while there is a parent
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignals$")
		child.Env = append(os.Environ(), "TEST_SIGNALS_CHILD=1")
		if _, err := child.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, want := range []string{"started", signal.String()} {
			if !lines.Scan() || !strings.Contains(lines.Text(), want) {
				t.Errorf("child said %q, want %q", lines.Text(), want)
			}
			if err := child.Process.Signal(signal); err != nil {
				t.Error(err)
			}
		}
		_ = child.Wait()
		if got, want := child.ProcessState.ExitCode(), 128+int(signal); got != want {
			t.Errorf("child ended with status %d, want %d", got, want)
		}
	}
}

func TestSignalsStop(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, stop := Signals(t.Context())
	stop()
	stop()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("context is %v", ctx.Err())
	}
}

func TestNewLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still at 2000-01-01
		var out bytes.Buffer
		log, err := NewLogger(LogOptions{Out: &out, Level: "warn"})
		if err != nil {
			t.Fatal(err)
		}
		log.Info().Msg("unheard")
		child := log.With().Str("room", "link").Logger()
		child.Warn().Msg("heard")
		var got map[string]string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		want := map[string]string{"level": "warn", "room": "link", "message": "heard", "time": "2000-01-01T00:00:00.000Z"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}

		out.Reset()
		log, err = NewLogger(LogOptions{Out: &out, Format: "console", NoColor: true})
		if err != nil {
			t.Fatal(err)
		}
		log.Info().Str("room", "link").Msg("heard")
		if want := "00:00:00.000 INF heard room=link\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
	for _, opts := range []LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLogger(opts); err == nil || !strings.Contains(err.Error(), "none of") {
			t.Errorf("%+v gave %v", opts, err)
		}
	}
}

func TestChecks(t *testing.T) {
	var c Checks
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	want := func(path string, status int, text string) {
		t.Helper()
		if code, body := get(path); code != status || body != text {
			t.Errorf("%s is %d %q, want %d %q", path, code, body, status, text)
		}
	}
	want("/readyz", 200, "ready\n")
	err := errors.Join(errors.New("no connection"), errors.New("trying again"))
	c.Add("store", func(context.Context) error { return nil })
	c.Add("relay", func(context.Context) error { return err })
	want("/readyz", 503, "ok store\nnot ready: relay: no connection; trying again\n")
	want("/healthz", 200, "ok\n")
	err = nil
	want("/readyz", 200, "ok store\nok relay\nready\n")
}

func TestChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Checks
		for _, name := range []string{"a", "b"} {
			c.Add(name, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}
		ready, report := c.Ready(t.Context())
		if want := "not ready: a: context deadline exceeded\nnot ready: b: context deadline exceeded\n"; ready || report != want {
			t.Errorf("ready %v, %q", ready, report)
		}
	})
}

func TestChecksRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Checks
		meet := make(chan bool)
		c.Add("a", func(ctx context.Context) error {
			select {
			case meet <- true:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		c.Add("b", func(ctx context.Context) error {
			select {
			case <-meet:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		if ready, report := c.Ready(t.Context()); !ready {
			t.Error(report)
		}
	})
}

func TestRegisterBuild(t *testing.T) {
	registry := prometheus.NewRegistry()
	if err := RegisterBuild(registry, "trainrelay-agent"); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "trainrelay_build_info" {
		t.Fatalf("%v, %v", families, err)
	}
	if labels := fmt.Sprint(families[0].GetMetric()[0].GetLabel()); !strings.Contains(labels, "trainrelay-agent") || !strings.Contains(labels, runtime.Version()) {
		t.Errorf("labels are %s", labels)
	}
	if err := RegisterBuild(registry, "trainrelay-agent"); err == nil {
		t.Error("registered twice without an error")
	}
}

package proxies

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const relayPort = "8443"

// relayTarget is what proxies are asked for.
const relayTarget = relayName + ":" + relayPort

// relay is a real relay, and its admin.
type relay struct {
	*client.Client
	target  string // what proxies are asked for
	ca      string // of its certificate
	code    string // digest of the code that all jobs have
	ground  *ground
	command command
	process *host.Process
}

// startRelay starts one of the name at a port; more are arguments, after or in
// place of the first ones.
func startRelay(ctx context.Context, g *ground, name, port string, more ...string) (*relay, error) {
	data := g.path(name)
	r := &relay{target: relayName + ":" + port, ground: g, command: command{name: name, place: relayPlace, hosts: names, args: append([]string{
		g.bin("trainrelay"), "serve", "--data", data, "--listen", relayIP + ":" + port,
		"--host", relayIP, "--host", relayName, "--log-level", "debug",
	}, more...)}}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	return r, r.upload(ctx)
}

// start starts the relay, with more arguments, and waits until it answers.
func (r *relay) start(ctx context.Context, more ...string) (err error) {
	c := r.command
	c.args = slices.Concat(c.args, more)
	if r.process, err = r.ground.start(ctx, c); err != nil {
		return err
	}
	file := filepath.Join(r.ground.path(c.name), "client.json")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		config, err := client.LoadConfig(file)
		if err == nil {
			r.ca = config.CA
			r.Client, err = client.New(config, client.Options{UserAgent: "test"})
		}
		if err == nil {
			_, err = r.Clusters(ctx)
		}
		if err == nil {
			return nil
		}
		if !r.process.Alive() || time.Now().After(deadline) {
			log, _ := os.ReadFile(r.ground.log(c.name))
			return fmt.Errorf("the relay does not answer: %w\n%s", err, log)
		}
	}
}

// restart starts the relay anew, with more arguments than it began with.
func (r *relay) restart(t *testing.T, more ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := errors.Join(r.process.Stop(ctx), r.start(ctx, more...)); err != nil {
		t.Fatal(err)
	}
}

// upload brings the code that jobs have to the relay.
func (r *relay) upload(ctx context.Context) error {
	var code bytes.Buffer
	archive := tar.NewWriter(&code)
	text := rand.Text()
	err := archive.WriteHeader(&tar.Header{Name: "train.py", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(archive, text)
	}
	if err = errors.Join(err, archive.Close()); err != nil {
		return err
	}
	r.code = fmt.Sprintf("sha256:%x", sha256.Sum256(code.Bytes()))
	return r.PutSnapshot(ctx, r.code, func(w io.Writer) error {
		_, err := w.Write(code.Bytes())
		return err
	})
}

// add makes a cluster with a compute of the same name, and returns the token
// that its agent joins with.
func (r *relay) add(t *testing.T, name, namespace string) string {
	t.Helper()
	token, err := r.Connect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.PutCompute(t.Context(), name, v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: name, Namespace: namespace}}); err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// submit creates a job with code.
func (r *relay) submit(ctx context.Context, name, compute string) error {
	_, _, err := r.Submit(ctx, protocol.Job{
		Name: name, Command: "true", Code: r.code, Image: "example.com/train:1", Compute: compute, Instances: 1,
	})
	return err
}

// connected reports whether a cluster's agent has synced after a time.
func (r *relay) connected(t *testing.T, name string, after time.Time) bool {
	t.Helper()
	c, err := r.Cluster(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c.Connectivity == v1.Connected && c.LastSync != nil && c.LastSync.After(after)
}

// until polls until it is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

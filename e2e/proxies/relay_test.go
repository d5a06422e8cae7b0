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
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const relayPort = "8443"

// relayTarget is what proxies are asked for.
const relayTarget = relayName + ":" + relayPort

// relay is the real relay, and its admin.
type relay struct {
	*client.Client
	ca   string // of its certificate
	code string // digest of the code that all jobs have
}

func startRelay(ctx context.Context, g *ground) (*relay, error) {
	data := g.path("relay")
	process, err := g.start(ctx, command{name: "relay", place: relayPlace, args: []string{
		g.bin("trainrelay"), "serve", "--data", data, "--listen", relayIP + ":" + relayPort,
		"--host", relayIP, "--host", relayName, "--log-level", "debug",
	}})
	if err != nil {
		return nil, err
	}
	r := new(relay)
	file := filepath.Join(data, "client.json")
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
			return r, r.upload(ctx)
		}
		if !process.Alive() || time.Now().After(deadline) {
			log, _ := os.ReadFile(g.log("relay"))
			return nil, fmt.Errorf("the relay does not answer: %w\n%s", err, log)
		}
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
	if _, _, err := r.PutCompute(t.Context(), v1.Compute{Name: name, Cluster: name, Namespace: namespace}); err != nil {
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

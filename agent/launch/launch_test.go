package launch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// tarball makes a snapshot of one file, and its digest.
func tarball(t testing.TB, name, content string) (data []byte, digest string) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(buf.Bytes())
	return buf.Bytes(), "sha256:" + hex.EncodeToString(sum[:])
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// fetching runs a fetch from the gateway, and returns what it said.
func fetching(t *testing.T, gateway http.HandlerFunc, digest string, change func(*Options)) (o Options, said string, err error) {
	t.Helper()
	server := httptest.NewServer(gateway)
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	var progress strings.Builder
	o = Options{URL: server.URL + "/v1/attempts/iris/1/code", TokenFile: token, Digest: digest, Dir: t.TempDir(), Timeout: time.Minute, Progress: &progress}
	if change != nil {
		change(&o)
	}
	err = Fetch(t.Context(), o)
	if text := progress.String(); strings.Contains(text, "the-token") || err != nil && strings.Contains(err.Error(), "the-token") {
		t.Errorf("the token was said aloud: %s, %v", text, err)
	}
	return o, progress.String(), err
}

// holds checks that the folder holds the one file, and nothing else.
func holds(t *testing.T, dir, name, content string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || string(got) != content || len(entries) != 1 {
		t.Errorf("%d entries; %s holds %q, %v; want %q", len(entries), name, got, err, content)
	}
}

func TestFetch(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	data, digest := tarball(t, "train.py", "print(1)")
	for _, encoding := range []string{"", "gzip"} {
		body := data
		if encoding == "gzip" {
			body = zipped(t, data)
		}
		o, said, err := fetching(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Bearer the-token" || req.URL.Path != "/v1/attempts/iris/1/code" {
				http.Error(w, "wrong request", http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Encoding", encoding)
			_, _ = w.Write(body)
		}, digest, func(o *Options) {
			if err := os.MkdirAll(filepath.Join(o.Dir, "left", "over"), 0o755); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil || said != "" {
			t.Fatalf("encoding %q: %v; said %q", encoding, err, said)
		}
		holds(t, o.Dir, "train.py", "print(1)")
	}
}

// What may pass is tried again, and said.
func TestTriesAgain(t *testing.T) {
	data, digest := tarball(t, "train.py", strings.Repeat("x", 10_000))
	for name, failing := range map[string]http.HandlerFunc{
		"relay away": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "cannot reach the relay", http.StatusBadGateway)
		},
		"cut body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:5000])
			panic(http.ErrAbortHandler)
		},
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:5000])
			_ = http.NewResponseController(w).Flush()
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}
		},
		"cut where only gzip sees it": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			body := zipped(t, data)
			_, _ = w.Write(body[:len(body)-9])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			o, said, err := fetching(t, func(w http.ResponseWriter, req *http.Request) {
				if tries++; tries == 1 {
					failing(w, req)
					return
				}
				_, _ = w.Write(data)
			}, digest, nil)
			if err != nil || tries != 2 || !strings.Contains(said, "trying again") {
				t.Fatalf("after %d tries: %v; said %q", tries, err, said)
			}
			holds(t, o.Dir, "train.py", strings.Repeat("x", 10_000))
		})
	}
}

// What cannot get better ends it, with a word on why.
func TestGivesUp(t *testing.T) {
	data, digest := tarball(t, "train.py", "print(1)")
	evil, evilDigest := tarball(t, "../evil", "x")
	serving := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
	}
	answering := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, status) }
	}
	for _, tt := range []struct {
		name    string
		gateway http.HandlerFunc
		digest  string
		change  func(*Options)
		want    string
	}{
		{"wrong token", answering(403, "the token is not that of attempt iris/1"), digest, nil, "the token is not that of attempt"},
		{"no code", answering(404, "job iris has no code"), digest, nil, "job iris has no code"},
		{"redirect", http.RedirectHandler("http://elsewhere.example/", http.StatusFound).ServeHTTP, digest, nil, "302"},
		{"another digest", serving(data), "sha256:" + strings.Repeat("0", 64), nil, "digest"},
		{"hostile archive", serving(evil), evilDigest, nil, "does not stay inside"},
		{"no archive", serving([]byte(strings.Repeat("<html>", 1000))), digest, nil, "archive"},
		{"no gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(data)
		}, digest, nil, "uncompress"},
		{"no token", serving(data), digest, func(o *Options) { o.TokenFile += "2" }, "token"},
		{"no folder", serving(data), digest, func(o *Options) { o.Dir += "2" }, "folder"},
		{"no digest", serving(data), "", nil, "digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, said, err := fetching(t, tt.gateway, tt.digest, tt.change)
			if err == nil || !strings.Contains(err.Error(), tt.want) || said != "" {
				t.Errorf("%v; said %q; want %q at once", err, said, tt.want)
			}
			if _, err := os.Stat(filepath.Join(o.Dir, "..", "evil")); err == nil {
				t.Error("a file was written outside the folder")
			}
		})
	}
}

func TestTimeIsOver(t *testing.T) {
	_, digest := tarball(t, "train.py", "")
	_, _, err := fetching(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "cannot reach the relay", http.StatusBadGateway)
	}, digest, func(o *Options) { o.Timeout = 50 * time.Millisecond })
	if err == nil || !strings.Contains(err.Error(), "time of 50ms") || !strings.Contains(err.Error(), "cannot reach the relay") {
		t.Errorf("%v: want both that the time is over and what was waited for", err)
	}
}

func TestBoundedMemory(t *testing.T) {
	const size = 200 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	write := func(to io.Writer) {
		w := tar.NewWriter(to)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "data.bin", Mode: 0o644, Size: size})
		for range size / len(block) {
			_, _ = w.Write(block)
		}
		_ = w.Close()
	}
	sum := sha256.New()
	write(sum)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	peak := make(chan uint64)
	go func() {
		var most uint64
		for ctx.Err() == nil {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		peak <- most
	}()
	o, _, err := fetching(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		write(zip)
		_ = zip.Close()
	}, "sha256:"+hex.EncodeToString(sum.Sum(nil)), nil)
	cancel()
	most := <-peak
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(o.Dir, "data.bin")); err != nil || info.Size() != size {
		t.Errorf("%v, %v", info, err)
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

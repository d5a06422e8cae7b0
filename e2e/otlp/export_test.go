package otlp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

// shown is the command of the document, and the file of headers that it shows.
func shown(t *testing.T) (command, headers string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo, "docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Send logs on\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "\n```\n")
	if !found || len(blocks) != 5 { // two blocks, and what is around them
		t.Fatalf("docs/operate.md has %d parts under Send logs on", len(blocks))
	}
	return strings.ReplaceAll(blocks[1], "\\\n", " "), blocks[3]
}

// started is when the first line was written.
var started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is the position behind n lines, one each millisecond.
func at(n int) protocol.LogPosition {
	if n == 0 {
		return protocol.LogPosition{}
	}
	return protocol.LogPosition{Time: started.Add(time.Duration(n) * time.Millisecond), Lines: 1}
}

// write ships lines of a rank. Like a real agent it goes on where the relay is:
// one that was killed has lost the last of what it had not yet written through.
func (a *agent) write(ref protocol.Ref, rank, lines int, eof bool) {
	a.t.Helper()
	from := a.sent[rank]
	a.sent[rank] += lines
	to := at(a.sent[rank])
	for {
		var text bytes.Buffer
		for n := from; n < a.sent[rank]; n++ {
			fmt.Fprintf(&text, "rank %d line %d\n", rank, n)
		}
		reply := new(protocol.LogReply)
		ask(a, protocol.VerbLog, &protocol.LogChunk{Ref: ref, Rank: rank, From: at(from), To: to, Data: text.Bytes(), EOF: eof}, reply)
		if reply.At.Time.Equal(to.Time) {
			return
		}
		if from = 0; !reply.At.Time.IsZero() {
			from = int(reply.At.Time.Sub(started) / time.Millisecond)
		}
	}
}

func (a *agent) total() (n int) {
	for _, lines := range a.sent {
		n += lines
	}
	return n
}

// TestLogExport: the relay, run as docs/operate.md says, sends every line of a
// job to a Collector once, and those of a rank in order: also those that come
// while the Collector is away, while the relay is away, and while both are.
func TestLogExport(t *testing.T) {
	authority, addr := testkit.NewAuthority(t), freeAddr(t)
	collector := collect(t, addr, authority)
	command, headers := shown(t)
	program := build(t)
	r := &relay{t: t, dir: t.TempDir()}
	for name, text := range map[string]string{"otlp-headers": headers, "collector-ca.crt": string(authority.PEM)} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.args = strings.Fields(strings.ReplaceAll(command, "collector.example.com:4318", addr))
	r.args[0] = program
	r.args = append(r.args, "--data", filepath.Join(r.dir, "data"), "--listen", freeAddr(t), "--host", "127.0.0.1")
	r.start()
	t.Cleanup(func() { r.end(syscall.SIGTERM) })

	a := join(t, r, "onprem-1")
	ref := a.claim(r, protocol.Job{Name: "iris", Compute: "onprem-1", Image: "python:3.13", Command: "python train.py", Instances: 2})
	write := func(eof bool) {
		for range 20 {
			for rank := range 2 {
				a.write(ref, rank, 50, false)
			}
		}
		for rank := range 2 {
			a.write(ref, rank, 1, eof)
		}
	}
	write(false)
	collector.wait(a.total())

	collector.stop() // and started
	write(false)
	waitFor(t, "that the Collector is missed", func() bool { return strings.Contains(r.metrics(), `trainrelay_export_batches_total{result="failed"}`) })
	collector.start()
	collector.wait(a.total())

	collector.stop()
	write(false)
	r.end(syscall.SIGKILL)
	collector.start()
	r.start()
	begun, before := time.Now(), len(collector.wait(0))
	write(false)
	collector.wait(a.total())
	t.Logf("%d lines, of which half were waiting, in %v", a.total()-before, time.Since(begun))

	r.end(syscall.SIGTERM)
	r.start()
	write(true)
	check(t, collector.wait(a.total()), a)
	if token := collector.token; len(token) != 1 || token[0] != "Bearer the-collectors-token" {
		t.Errorf("the Collector was sent %q", token)
	}
	if strings.Contains(r.log(), "the-collectors-token") {
		t.Error("the relay's log has the token")
	}
}

// check looks at every record.
func check(t *testing.T, records []record, a *agent) {
	t.Helper()
	next := map[int]int{}
	for _, got := range records {
		rank := int(got.attributes["trainrelay.rank"].(int64))
		n := next[rank]
		next[rank]++
		if want := fmt.Sprintf("rank %d line %d", rank, n); got.body != want {
			t.Fatalf("%q came where %q was to come", got.body, want)
		}
		if got.service != "trainrelay" || got.attributes["trainrelay.job"] != "iris" || got.attributes["trainrelay.attempt"] != int64(1) || got.attributes["k8s.cluster.name"] != "onprem-1" {
			t.Fatalf("%+v", got)
		}
		// That of the last line of its chunk.
		if after := int(got.time.Sub(started) / time.Millisecond); after <= n || after > n+2000 {
			t.Fatalf("line %d is of %v", n, got.time)
		}
	}
	for rank, lines := range a.sent {
		if next[rank] != lines {
			t.Errorf("of rank %d came %d lines of %d", rank, next[rank], lines)
		}
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for range 600 {
		if so() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestCrossTenant: with the credential of the real agent, taken from its
// Secret, nothing of another cluster can be read, written, answered or injected
// into. Package relay tries more.
func TestCrossTenant(t *testing.T) {
	const other = "other-tenant"
	out := site(t).CLI(t.Context(), "cluster", "connect", "--name", other, "--query", "join_token", "-o", "tsv")
	if out.Code != 0 {
		t.Fatalf("cluster connect: exit code %d: %s", out.Code, out.Stderr)
	}
	t.Cleanup(func() {
		if out := site(t).CLI(context.WithoutCancel(t.Context()), "cluster", "disconnect", "-n", other, "--yes"); out.Code != 0 {
			t.Errorf("cluster disconnect: exit code %d: %s", out.Code, out.Stderr)
		}
	})
	joined, err := enrol(t, strings.TrimSpace(out.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	b, err := site(t).AgentConn(joined.Key, nats.CustomInboxPrefix(protocol.InboxPrefix(other)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.SubscribeSync(protocol.NudgeSubject(other, rand.Text())); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Request(protocol.UpSubject(other, protocol.VerbSync), []byte("hello"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	heard := b.Stats().InMsgs
	job := unique("of-the-real-one")
	submit(t, job, "command: 'sleep 5'")
	before := site(t).CLI(t.Context(), "cluster", "show", "-n", other, "--query", "{k:public_key,s:last_sync}", "-o", "json").Stdout

	said := make(chan error, 64)
	a, err := site(t).AgentConn(site(t).AgentKey(t), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	refused := func(what string) {
		t.Helper()
		select {
		case err := <-said:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
			t.Logf("%-40s → %v", what, err)
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not refused", what)
		}
	}
	subjects := []string{
		"up." + other + ".sync", "up." + other + ".event", "nudge." + other + ".x", "_INBOX_" + other + ".x",
		"$JS.API.INFO", "$JS.API.STREAM.PURGE.KV_JOBS", "$KV.JOBS.x", "log.x.1.0", "dead.x", "$SYS.REQ.USER.AUTH", "_R_.x",
	}
	for _, subject := range subjects {
		if err := a.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		refused("publish " + subject)
	}
	for _, subject := range []string{">", "up.*.*", "nudge.>", "nudge." + other + ".*", "_INBOX_" + other + ".>", "$JS.>", "$SYS.>"} {
		if _, err := a.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		refused("subscribe " + subject)
		if _, err := a.QueueSubscribeSync(subject, "relay"); err != nil {
			t.Fatal(err)
		}
		refused("subscribe " + subject + " relay")
	}
	own := protocol.UpSubject(site(t).ClusterName, protocol.VerbSync)
	replies := append(subjects, "nudge."+other+".*", "_INBOX_"+other+".*.*", "$KV.>")
	for _, reply := range replies {
		if err := a.PublishRequest(own, reply, []byte("junk")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Request(own, []byte("junk"), 10*time.Second); err != nil {
		t.Errorf("the relay does not answer any more: %v", err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if now := b.Stats().InMsgs; now != heard {
		t.Errorf("the other cluster has received %d messages", now-heard)
	}
	if after := site(t).CLI(t.Context(), "cluster", "show", "-n", other, "--query", "{k:public_key,s:last_sync}", "-o", "json").Stdout; after != before {
		t.Errorf("the other cluster was %s and is %s", before, after)
	}
	t.Logf("%d requests whose answers were to go elsewhere: the other cluster heard none, and its record is as it was", len(replies))
	waitFor(t, job, func(j v1.Job) bool { return j.Status == protocol.Completed })
}

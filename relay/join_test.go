package relay

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// TestJoinOverHTTP: an agent joins with nothing but its token, learns whom to
// trust, and is told what is wrong with a token that does not let it in.
func TestJoinOverHTTP(t *testing.T) {
	s := serve(t, t.TempDir())
	token, err := s.client.Connect(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(token.Expires); left < 59*time.Minute || left > time.Hour || token.Cluster.Connectivity != v1.NeverConnected {
		t.Errorf("%+v", token)
	}
	// The relay's key is replaced while the token is on its way.
	if _, err := s.Keys().Rotate("admin"); err != nil {
		t.Fatal(err)
	}
	joined, err := s.enrol(t, token.Token)
	if err != nil {
		t.Fatal(err)
	}
	if joined.Cluster != "c" || len(joined.Trust.Keys) != 2 || joined.Trust.CA != s.config.CA {
		t.Errorf("joined %s, trusting %+v", joined.Cluster, joined.Trust)
	}
	if _, err := s.enrol(t, token.Token); err == nil || !strings.Contains(err.Error(), "410") || !strings.Contains(err.Error(), "used already") {
		t.Errorf("a used token: %v", err)
	}
	key := s.Keys().Current().Public()
	stranger, err := protocol.NewJoinToken(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.enrol(t, stranger.Text()); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown token: %v", err)
	}
	if _, err := s.Jobs().Connect(t.Context(), "d", stranger.ID(), key.ID(), time.Now().Add(-time.Minute), "admin"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.enrol(t, stranger.Text()); err == nil || !strings.Contains(err.Error(), "410") || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired token: %v", err)
	}
	for name, body := range map[string]string{"no request": "{}", "no JSON": "trj_secret", "large": `{"token":"` + strings.Repeat("0", 5<<10) + `"}`} {
		want := http.StatusUnprocessableEntity
		if name == "large" {
			want = http.StatusRequestEntityTooLarge
		}
		status, answer := s.request(t, http.MethodPost, "/v1/agent/enrol", "", strings.NewReader(body))
		if status != want || bytes.Contains(answer, []byte("secret")) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

// TestRevoked: whichever way a key is lost, a live agent is cut off in less than
// two seconds, having got the cancels of its jobs where they are canceled.
func TestRevoked(t *testing.T) {
	s := serve(t, t.TempDir())
	disconnect := func(jobs string) func() error {
		return func() error {
			gone, err := s.client.Disconnect(t.Context(), "c", jobs)
			if err == nil && gone.Told != (jobs == v1.CancelJobs) {
				err = fmt.Errorf("%+v", gone)
			}
			return err
		}
	}
	for name, revoke := range map[string]func() error{
		"disconnected, jobs kept":     disconnect(v1.KeepJobs),
		"disconnected, jobs canceled": disconnect(v1.CancelJobs),
		"another agent joined": func() error {
			token, err := s.client.Connect(t.Context(), "c")
			if err == nil {
				_, err = s.enrol(t, token.Token)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			joined := s.join(t, "c")
			if _, _, err := s.client.PutCompute(t.Context(), "c", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "c", Namespace: "train"}}); err != nil {
				t.Fatal(err)
			}
			slug := strings.NewReplacer(" ", "-", ",", "").Replace(name)
			a := &agent{t: t, cluster: "c", session: "session-of-" + slug, conn: s.dialFront(t, "c", joined.Key), trust: s.Keys().Trust("")}
			a.join()
			job := "job-" + slug
			submit(t, s.running, sampleJob(job, "c"))
			reply := a.room(10)
			if got := starts(reply); len(got) == 0 {
				t.Fatalf("%+v", reply)
			}
			held := starts(reply)
			nudges, err := a.conn.SubscribeSync(protocol.NudgeSubject("c", nudgeWord))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.conn.Flush(); err != nil {
				t.Fatal(err)
			}
			cut := make(chan struct{})
			a.conn.SetClosedHandler(func(*natsConn) { close(cut) })
			begin := time.Now()
			done := make(chan error, 1)
			go func() { done <- revoke() }()
			if strings.HasSuffix(name, "canceled") {
				for len(a.sync(protocol.Sync{Held: held}).Cancels) < len(held) {
					if _, err := nudges.NextMsg(time.Second); err != nil {
						t.Fatalf("the agent was not told to cancel: %v", err)
					}
				}
			}
			select {
			case <-cut:
				t.Logf("cut after %v", time.Since(begin))
			case <-time.After(2 * time.Second):
				t.Error("still connected after two seconds")
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, ok := s.Jobs().ClusterOf(public(t, joined.Key)); ok {
				t.Error("the key is still a cluster's")
			}
		})
	}
}

// TestSilentAgentIsCut: an agent that does not fetch its cancels is cut off all
// the same.
func TestSilentAgentIsCut(t *testing.T) {
	s := serve(t, t.TempDir())
	kp := s.setUp(t, "c")
	a := s.leadFront(t, "c", kp)
	a.join()
	submit(t, s.running, sampleJob("job", "c"))
	wantStarts(t, a.room(1), attempt("job", 1))
	cut := make(chan struct{})
	a.conn.SetClosedHandler(func(*natsConn) { close(cut) })
	begin := time.Now()
	var asked sync.WaitGroup
	defer asked.Wait()
	asked.Go(func() {
		if gone, err := s.client.Disconnect(t.Context(), "c", v1.CancelJobs); err != nil || gone.Told || gone.LiveJobs != 1 {
			t.Errorf("%+v, %v", gone, err)
		}
	})
	select {
	case <-cut:
		t.Logf("cut after %v", time.Since(begin))
	case <-time.After(2 * time.Second):
		t.Error("still connected after two seconds")
	}
}

func public(t *testing.T, kp nkeys.KeyPair) string {
	t.Helper()
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

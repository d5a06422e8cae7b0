package link

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// secret is where what is trusted is kept.
type secret struct {
	mu    sync.Mutex
	trust protocol.Trust
	err   error
	saves int
}

func (s *secret) save(_ context.Context, t protocol.Trust) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.err == nil {
		s.trust = t
	}
	return s.err
}

func (s *secret) load(context.Context) (protocol.Trust, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trust, s.err
}

func (s *secret) set(t protocol.Trust, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trust, s.err = t, err
}

func ids(keys ...*protocol.SigningKey) []string {
	var ids []string
	for _, key := range keys {
		ids = append(ids, key.Public().ID())
	}
	return ids
}

// announce answers with what the relay trusts where the sync says otherwise.
func announce(now func() protocol.Trust) func(int, *protocol.Sync, *protocol.SyncReply) error {
	return func(_ int, req *protocol.Sync, reply *protocol.SyncReply) error {
		if trust := now(); trust.Digest() != req.Trust {
			reply.Trust = &trust
		}
		reply.Computes = []protocol.Compute{gpu}
		reply.Starts = []protocol.Start{start("a")}
		return nil
	}
}

// TestTrustCountsOnceItIsSaved: a new key of the relay, or another authority,
// is saved before the agent says that it trusts it. While that fails, work goes
// on, the status says so, and it is tried again.
func TestTrustCountsOnceItIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := newRelayKey()
		next := trust(relayKey, fresh)
		next.CA = "the authority before and the next one"
		r := &relay{onSync: announce(func() protocol.Trust { return next })}
		kept := &secret{err: errors.New("the API server is away")}
		w := newWorkloads()
		l := newLink(t, r, w, func(o *Options) { o.SaveTrust = kept.save })
		stop := lead(t, l)
		time.Sleep(3 * protocol.SyncInterval)
		if s := l.Status(); !strings.Contains(s.Trust, "the API server is away") || s.Breaches > 0 || kept.saves < 3 {
			t.Errorf("status %+v after %d saves", s, kept.saves)
		}
		syncs := r.sent()
		if diff := cmp.Diff(ids(relayKey), syncs[len(syncs)-1].Keys); diff != "" || len(w.started) == 0 {
			t.Errorf("unsaved: trusted %s; %d starts", diff, len(w.started))
		}

		kept.set(protocol.Trust{}, nil)
		time.Sleep(2 * protocol.SyncInterval)
		syncs = r.sent()
		last := syncs[len(syncs)-1]
		if diff := cmp.Diff(ids(relayKey, fresh), last.Keys); diff != "" || last.Trust != next.Digest() {
			t.Errorf("saved: trusted %s", diff)
		}
		if s := l.Status(); s.Trust != "" || kept.trust.Digest() != next.Digest() {
			t.Errorf("status %+v, kept %+v", s, kept.trust)
		}

		// The relay signs with the new key, and drops the old one.
		saves := kept.saves
		r.sign(fresh)
		next = trust(fresh)
		time.Sleep(2 * protocol.SyncInterval)
		if s := l.Status(); s.Breaches > 0 || kept.saves != saves+1 {
			t.Errorf("%d saves; status %+v", kept.saves-saves, s)
		}
		// What is signed with the old one is not believed any more.
		r.sign(relayKey)
		time.Sleep(protocol.SyncInterval)
		if s := l.Status(); !strings.Contains(s.Breach, relayKey.Public().ID()) || !strings.Contains(s.Breach, "cluster connect") {
			t.Errorf("status %+v", s)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestTrustThatAnotherPodLearnt: a pod that begins to lead, or that does not
// know the key, reads what the leader before it has saved.
func TestTrustThatAnotherPodLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second, third := newRelayKey(), newRelayKey()
		r := &relay{key: second}
		kept := &secret{trust: trust(second)}
		l := newLink(t, r, newWorkloads(), func(o *Options) { o.LoadTrust = kept.load })
		stop := lead(t, l)
		time.Sleep(time.Second)
		if s := l.Status(); s.Breaches > 0 || s.LastSync.IsZero() {
			t.Errorf("at the begin: %+v", s)
		}
		r.sign(third)
		l.Wake()
		time.Sleep(time.Second)
		if l.Status().Breach == "" {
			t.Error("a key that is nowhere trusted was believed")
		}
		kept.set(trust(second, third), nil)
		time.Sleep(protocol.SyncInterval)
		if s := l.Status(); s.Breach != "" {
			t.Errorf("later: %+v", s)
		}
		// A Secret that cannot be read, or is damaged, changes nothing.
		for _, bad := range []*secret{{err: errors.New("away")}, {}} {
			kept.set(bad.trust, bad.err)
			l.reloadTrust(t.Context())
			l.Wake()
			time.Sleep(time.Second)
			if s := l.Status(); s.Breach != "" {
				t.Errorf("with %+v: %+v", bad, s)
			}
		}
		_ = stop()
	})
}

// TestBreachesDoNotFillTheLog: a day of forged answers is some lines a kind,
// and one incident that counts them.
func TestBreachesDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &relay{key: newRelayKey()}
		l := newLink(t, r, newWorkloads(), func(o *Options) { o.Log = zerolog.New(&log).Level(zerolog.InfoLevel) })
		stop := lead(t, l)
		time.Sleep(24 * time.Hour)
		_ = stop()
		refused := l.Status().Breaches
		if lines := strings.Count(log.String(), "\n"); refused < 1000 || lines < 24 || lines > 160 {
			t.Errorf("%d lines for %d breaches", lines, refused)
		}
		if !strings.Contains(log.String(), `"level":"error"`) || !strings.Contains(log.String(), `"kind":"unknown-key"`) {
			t.Errorf("the log says %s", log.String())
		}
		last := r.sent()[len(r.sent())-1].Incidents
		if len(last) != 1 || last[0].Count != refused-1 { // but the last one
			t.Errorf("told %+v of %d", last, refused)
		}
	})
}

// TestToldIncidents: what comes while a report is under way is another
// incident, of a time of its own, by which the relay tells them apart.
func TestToldIncidents(t *testing.T) {
	g := &guard{trust: trust(relayKey)}
	at := time.Unix(1, 0)
	forged, old := &protocol.Breach{Kind: protocol.Forged}, &protocol.Breach{Kind: protocol.Replayed}
	g.note(forged, at)
	g.note(forged, at.Add(time.Second))
	g.note(old, at)
	sync := new(protocol.Sync)
	g.state(sync)
	g.note(forged, at.Add(2*time.Second))
	g.told(sync.Incidents)
	rest := new(protocol.Sync)
	g.state(rest)
	want := []protocol.Incident{{Time: at.Add(2 * time.Second).UTC(), Kind: protocol.Forged, Count: 1}}
	if diff := cmp.Diff(want, rest.Incidents); diff != "" || len(sync.Incidents) != 2 || sync.Incidents[0].Count != 2 {
		t.Errorf("%s; first %+v", diff, sync.Incidents)
	}
	g.told(rest.Incidents)
	g.state(rest)
	if len(rest.Incidents) > 0 {
		t.Errorf("left %+v", rest.Incidents)
	}
}

// FuzzAnswers: whatever answers a sync, it is believed only where the relay
// signed it for this cluster and sync.
func FuzzAnswers(f *testing.F) {
	req := &protocol.Sync{Nonce: "n-0123456789abcdef"}
	reply := &protocol.SyncReply{Cluster: "onprem-1", Nonce: req.Nonce, ValidSeconds: 20, Term: 1}
	genuine, err := protocol.EncodeSigned(reply, relayKey)
	if err != nil {
		f.Fatal(err)
	}
	unsigned, err := protocol.Encode(reply)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add(unsigned)
	f.Add([]byte(`{"v":1,"kind":"refusal","body":{"message":"no"}}`))
	f.Add([]byte(`{"v":1,"kind":"sync-reply","body":{},"key":"` + relayKey.Public().ID() + `","sig":"AA=="}`))
	g := &guard{trust: trust(relayKey)}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := g.judge(data, "onprem-1", req, time.Now())
		if err == nil && !cmp.Equal(got, reply) {
			t.Errorf("believed %s", data)
		}
	})
}

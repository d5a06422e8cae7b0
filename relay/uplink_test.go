package relay

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// rooms answers every request with what it is set to.
type rooms struct {
	sync *protocol.SyncReply
	err  error
}

func (r rooms) Sync(context.Context, string, *protocol.Sync) (*protocol.SyncReply, error) {
	return r.sync, r.err
}

func (r rooms) Events(context.Context, string, *protocol.EventBatch) (*protocol.EventReply, error) {
	return &protocol.EventReply{}, r.err
}

func (r rooms) Append(context.Context, string, *protocol.LogChunk) (*protocol.LogReply, error) {
	return &protocol.LogReply{}, r.err
}

// oneKey signs everything, whatever the agent trusts.
type oneKey struct{ *protocol.SigningKey }

func (k oneKey) For([]string) *protocol.SigningKey { return k.SigningKey }

func newSigner() oneKey {
	key, err := protocol.NewSigningKey()
	if err != nil {
		panic(err) // there is no randomness
	}
	return oneKey{key}
}

// FuzzUplink: whatever an agent sends, it is answered, and what cannot be used
// is refused for good and named bad.
func FuzzUplink(f *testing.F) {
	for _, seed := range []struct{ verb, data string }{
		{"sync", `{"v":1,"kind":"sync","body":{"nonce":"0123456789abcdef","session":"0123456789abcdef","info":{"agent_version":"1"}}}`},
		{"event", `{"v":1,"kind":"event","body":{"events":[{"job":"a","attempt":1,"term":1,"seq":1,"state":"Running","time":"2026-01-02T03:04:05Z"}]}}`},
		{"log", `{"v":1,"kind":"log","body":{"job":"a","attempt":1,"rank":0,"from":{},"to":{},"data":"eA=="}}`},
		{"log", `{"v":1,"kind":"refusal","body":{"message":"no"}}`},
		{"sync", `{"v":2}`}, {"event", "null"}, {"", ""}, {"sync", "\xff"},
	} {
		f.Add(seed.verb, []byte(seed.data))
	}
	r := rooms{sync: &protocol.SyncReply{Cluster: "c", ValidSeconds: 20, Term: 1}}
	u := uplink{clusters: r, logs: r, keys: newSigner(), log: zerolog.Nop()}
	f.Fuzz(func(t *testing.T, verb string, data []byte) {
		reply, bad := u.handle(t.Context(), "c", verb, data)
		refusal := new(protocol.Refusal)
		err := protocol.Decode(reply, new(protocol.SyncReply))
		if refused := errors.As(err, &refusal); refused != (bad != nil) || refused && refusal.Temporary {
			t.Errorf("answer %s to bad %v", reply, bad)
		}
	})
}

func TestRefusals(t *testing.T) {
	sync := []byte(`{"v":1,"kind":"sync","body":{"nonce":"0123456789abcdef","session":"0123456789abcdef","info":{"agent_version":"1"}}}`)
	for _, test := range []struct {
		name string
		room rooms
		want protocol.Refusal
	}{
		{"superseded", rooms{err: &protocol.Refusal{Message: "another one leads"}}, protocol.Refusal{Message: "another one leads"}},
		{"away", rooms{err: errors.New("the store is away")}, protocol.Refusal{Message: "the store is away", Temporary: true}},
		{"no answer that encodes", rooms{sync: &protocol.SyncReply{Cluster: "c"}}, protocol.Refusal{Message: "encode sync-reply: term: is 0", Temporary: true}},
	} {
		reply, bad := uplink{clusters: test.room, keys: newSigner(), log: zerolog.Nop()}.handle(t.Context(), "c", protocol.VerbSync, sync)
		if got := refused(t, protocol.Decode(reply, new(protocol.SyncReply))); *got != test.want || bad != nil {
			t.Errorf("%s: %+v, bad %v", test.name, got, bad)
		}
	}
	long := refuse(errors.New(strings.Repeat("x", 1<<20)), false)
	if len(long) > protocol.MaxMessage {
		t.Errorf("a refusal of %d bytes", len(long))
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// uplink answers what agents send: it decodes a request, hands it to the room
// that knows, and encodes the answer. The answer to a sync is signed with the
// newest key that the agent trusts. What it cannot use is refused and named
// bad; what could not be done now is refused for now.
type uplink struct {
	clusters interface {
		Sync(ctx context.Context, cluster string, m *protocol.Sync) (*protocol.SyncReply, error)
		Events(ctx context.Context, cluster string, m *protocol.EventBatch) (*protocol.EventReply, error)
	}
	logs interface {
		Append(ctx context.Context, cluster string, m *protocol.LogChunk) (*protocol.LogReply, error)
	}
	keys interface {
		// For is the newest of the keys that the agent trusts, by their IDs.
		For(trusted []string) *protocol.SigningKey
	}
	log zerolog.Logger
}

func (u uplink) handle(ctx context.Context, cluster, verb string, data []byte) (reply []byte, bad error) {
	log := u.log.With().Str("cluster", cluster).Str("verb", verb).Logger()
	switch verb {
	case protocol.VerbSync:
		return answer(ctx, cluster, data, new(protocol.Sync), u.clusters.Sync, u.sign, log)
	case protocol.VerbEvent:
		return answer(ctx, cluster, data, new(protocol.EventBatch), u.clusters.Events, unsigned, log)
	case protocol.VerbLog:
		return answer(ctx, cluster, data, new(protocol.LogChunk), u.logs.Append, unsigned, log)
	}
	bad = fmt.Errorf("there is no request %q", verb)
	return refuse(bad, false), bad
}

// sign encodes the answer to a sync.
func (u uplink) sign(request *protocol.Sync, reply *protocol.SyncReply) ([]byte, error) {
	return protocol.EncodeSigned(reply, u.keys.For(request.Keys))
}

// unsigned encodes an answer that orders nothing.
func unsigned[Q, A protocol.Message](_ Q, reply A) ([]byte, error) { return protocol.Encode(reply) }

// answer decodes a request, has it done, and encodes what comes back.
func answer[Q, A protocol.Message](ctx context.Context, cluster string, data []byte, request Q, do func(context.Context, string, Q) (A, error), encode func(Q, A) ([]byte, error), log zerolog.Logger) (reply []byte, bad error) {
	if err := protocol.Decode(data, request); err != nil {
		return refuse(err, false), err
	}
	a, err := do(ctx, cluster, request)
	if err == nil {
		reply, err = encode(request, a)
	}
	if err == nil {
		return reply, nil
	}
	if refusal := new(protocol.Refusal); errors.As(err, &refusal) {
		log.Warn().Err(err).Msg("refused a request")
		return refuse(errors.New(refusal.Message), refusal.Temporary), nil
	}
	log.Error().Err(err).Msg("cannot answer a request now")
	return refuse(err, true), nil
}

// refuse encodes a refusal.
func refuse(reason error, temporary bool) []byte {
	message := protocol.NewReason("", "%v", reason).Message // cut to size
	data, err := protocol.Encode(&protocol.Refusal{Message: message, Temporary: temporary})
	if err != nil { // a short refusal always encodes
		panic(err)
	}
	return data
}

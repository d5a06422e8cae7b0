package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/trainrelay/trainrelay/protocol"
)

// uplink answers what agents send: it decodes a request, hands it to the room
// that knows, and encodes the answer. What it cannot use is refused and named
// bad; what could not be done now is refused for now.
type uplink struct {
	clusters interface {
		Sync(ctx context.Context, cluster string, m *protocol.Sync) (*protocol.SyncReply, error)
		Events(ctx context.Context, cluster string, m *protocol.EventBatch) (*protocol.EventReply, error)
	}
	logs interface {
		Append(ctx context.Context, cluster string, m *protocol.LogChunk) (*protocol.LogReply, error)
	}
	log zerolog.Logger
}

func (u uplink) handle(ctx context.Context, cluster, verb string, data []byte) (reply []byte, bad error) {
	log := u.log.With().Str("cluster", cluster).Str("verb", verb).Logger()
	switch verb {
	case protocol.VerbSync:
		return answer(ctx, cluster, data, new(protocol.Sync), u.clusters.Sync, log)
	case protocol.VerbEvent:
		return answer(ctx, cluster, data, new(protocol.EventBatch), u.clusters.Events, log)
	case protocol.VerbLog:
		return answer(ctx, cluster, data, new(protocol.LogChunk), u.logs.Append, log)
	}
	bad = fmt.Errorf("there is no request %q", verb)
	return refuse(bad, false), bad
}

// answer decodes a request, has it done, and encodes what comes back.
func answer[Q, A protocol.Message](ctx context.Context, cluster string, data []byte, request Q, do func(context.Context, string, Q) (A, error), log zerolog.Logger) (reply []byte, bad error) {
	if err := protocol.Decode(data, request); err != nil {
		return refuse(err, false), err
	}
	a, err := do(ctx, cluster, request)
	if err == nil {
		reply, err = protocol.Encode(a)
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

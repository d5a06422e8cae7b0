package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/trainrelay/trainrelay/protocol"
)

// send sends one message to the relay and returns the answer as it came.
func send[Q protocol.Message](ctx context.Context, l *Link, verb string, message Q) ([]byte, error) {
	data, err := protocol.Encode(message)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := l.conn.Request(ctx, protocol.UpSubject(l.cluster, verb), data)
	if err != nil {
		return nil, fmt.Errorf("%s request to the relay: %w", verb, err)
	}
	return answer, nil
}

// request sends one message to the relay and decodes its answer, which orders
// nothing and is not signed, into reply.
func request[Q, A protocol.Message](ctx context.Context, l *Link, verb string, message Q, reply A) error {
	answer, err := send(ctx, l, verb, message)
	if err != nil {
		return err
	}
	return protocol.Decode(answer, reply)
}

// SendLog sends a run of a pod's output and returns the relay's answer. Every
// pod of the agent may do so, whether or not it leads. It does not retry; the
// error is a *protocol.Refusal where the relay refused the chunk.
func (l *Link) SendLog(ctx context.Context, chunk *protocol.LogChunk) (*protocol.LogReply, error) {
	reply := new(protocol.LogReply)
	if err := request(ctx, l, protocol.VerbLog, chunk, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// refusedForGood reports whether the relay will not take the same message
// later either.
func refusedForGood(err error) bool {
	refusal, ok := errors.AsType[*protocol.Refusal](err)
	return ok && !refusal.Temporary
}

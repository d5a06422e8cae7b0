package broker

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/trainrelay/trainrelay/protocol"
)

// TestJunkHasItsShare: the largest letters of two hundred clusters, as many as
// each may have, are kept beside each other.
func TestJunkHasItsShare(t *testing.T) {
	b := start(t, t.TempDir())
	subject := protocol.UpSubject(strings.Repeat("c", protocol.MaxLabel), protocol.VerbEvent)
	junk := &nats.Msg{Subject: subject, Data: make([]byte, protocol.MaxMessage)}
	for range lettersPerSubject + 1 {
		b.deadLetter(t.Context(), junk, errors.New(strings.Repeat("x", 2*maxReason)))
	}
	stream, err := b.JetStream().Stream(t.Context(), DeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const clusters, verbs = 200, 3
	if all := int64(info.State.Bytes) * clusters * verbs; info.State.Msgs != lettersPerSubject || all > info.Config.MaxBytes {
		t.Errorf("%d letters of %d bytes on one subject, %d bytes of all clusters; the stream holds %d",
			info.State.Msgs, info.State.Bytes, all, info.Config.MaxBytes)
	}
	letter, err := stream.GetLastMsgForSubject(t.Context(), deadPrefix+subject)
	if err != nil {
		t.Fatal(err)
	}
	if n := letter.Header.Get(headerLength); n != strconv.Itoa(protocol.MaxMessage) || len(letter.Data) != maxLetter {
		t.Errorf("kept %d bytes of a message of %q", len(letter.Data), n)
	}
}

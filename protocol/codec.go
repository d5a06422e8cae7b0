package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Wire is the version of the protocol that this package speaks.
const Wire = 1

// Envelope is the outside of every message: {"v":1,"kind":"sync","body":{…}}.
// What a relay signs has the ID of its key and the signature beside the body.
type Envelope struct {
	V         int             `json:"v"`
	Kind      string          `json:"kind"`
	Body      json.RawMessage `json:"body"`
	Key       string          `json:"key,omitempty"`
	Signature []byte          `json:"sig,omitempty"`
}

// Message is one of the messages of this package.
type Message interface {
	*Sync | *SyncReply | *EventBatch | *EventReply | *LogChunk | *LogReply | *Refusal | *Enrolment
	Validate() error
}

// kindOf names the kind of a message on the wire.
func kindOf(m any) string {
	switch m.(type) {
	case *Sync:
		return "sync"
	case *SyncReply:
		return "sync-reply"
	case *EventBatch:
		return "event"
	case *EventReply:
		return "event-reply"
	case *LogChunk:
		return "log"
	case *LogReply:
		return "log-reply"
	case *Refusal:
		return "refusal"
	case *Enrolment:
		return "enrolment"
	}
	panic(fmt.Sprintf("protocol: %T is not a message", m))
}

// ErrTooLarge is in the error of a message over MaxMessage.
var ErrTooLarge = errors.New("message too large")

// Encode checks m and returns its wire form, without a signature.
func Encode[M Message](m M) ([]byte, error) {
	kind := kindOf(m)
	body, err := encodeBody(kind, m)
	if err != nil {
		return nil, err
	}
	return encodeEnvelope(Envelope{V: Wire, Kind: kind, Body: body})
}

func encodeBody[M Message](kind string, m M) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	return body, nil
}

func encodeEnvelope(e Envelope) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Kind, err)
	}
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("encode %s: %w: %d bytes, at most %d are allowed", e.Kind, ErrTooLarge, len(data), MaxMessage)
	}
	return data, nil
}

// Decode reads one message of the kind of m into m and checks it. Where the
// peer answered with a Refusal instead, the error is that *Refusal. Nobody's
// signature is looked at: see DecodeSigned.
func Decode[M Message](data []byte, m M) error {
	return decode(data, m, func(Envelope) error { return nil })
}

// decode is Decode with a look at the envelope before its body is read. A
// refusal needs no signature: it starts nothing.
func decode[M Message](data []byte, m M, check func(Envelope) error) error {
	want := kindOf(m)
	if len(data) > MaxMessage {
		return fmt.Errorf("decode %s: %w: %d bytes, at most %d are allowed", want, ErrTooLarge, len(data), MaxMessage)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("decode %s: not UTF-8", want)
	}
	var env Envelope
	if err := unmarshal(data, &env); err != nil {
		return fmt.Errorf("decode %s: envelope: %w", want, err)
	}
	if env.V != Wire {
		return fmt.Errorf("decode %s: protocol version %d; this side speaks %d: upgrade the older of relay and agent", want, env.V, Wire)
	}
	if env.Kind == "refusal" && want != "refusal" {
		refusal := new(Refusal)
		if err := unmarshal(env.Body, refusal); err != nil {
			return fmt.Errorf("decode refusal: %w", err)
		}
		refusal.Message = Cut(refusal.Message, MaxReason) // nobody has signed it
		return refusal
	}
	if env.Kind != want {
		return fmt.Errorf("decode %s: message is of kind %q", want, Cut(env.Kind, 40))
	}
	if err := check(env); err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	if err := unmarshal(env.Body, m); err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	return nil
}

// unmarshal reads exactly one JSON object.
func unmarshal(data []byte, v any) error {
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' {
		return errors.New("not a JSON object")
	}
	return json.Unmarshal(data, v)
}

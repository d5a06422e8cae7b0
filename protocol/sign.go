package protocol

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A relay signs what starts, stops or places work, and what agents are to
// trust, with Ed25519 (RFC 8032): an agent believes the key that it learnt at
// join, not the broker that carries the message. What is signed is
//
//	"trainrelay v1 " KIND NUL BODY
//
// with the body's bytes as they are in the envelope, so that nothing depends on
// how JSON is written. The body itself names the cluster and the nonce of the
// request that it answers.

// RelayKey is the public half of a relay's signing key.
type RelayKey [ed25519.PublicKeySize]byte

// ID names the key in messages and for people: 16 hexadecimal digits.
func (k RelayKey) ID() string {
	sum := sha256.Sum256(k[:])
	return hex.EncodeToString(sum[:8])
}

// MarshalText writes the key as base64.
func (k RelayKey) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(k[:])), nil
}

// UnmarshalText reads what MarshalText wrote.
func (k *RelayKey) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) != len(k) || bytes.ContainsAny(text, "\r\n") {
		return errors.New("not a relay's public key: 32 bytes in base64 are expected")
	}
	copy(k[:], raw)
	return nil
}

// SigningKey is a relay's private signing key.
type SigningKey struct{ private ed25519.PrivateKey }

// NewSigningKey makes a key.
func NewSigningKey() (*SigningKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return &SigningKey{private}, nil
}

// SigningKeyFromSeed is the key of a seed of 32 bytes.
func SigningKeyFromSeed(seed []byte) (*SigningKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("seed of a signing key: %d bytes, %d are needed", len(seed), ed25519.SeedSize)
	}
	return &SigningKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// Seed is what SigningKeyFromSeed makes the key of. It is secret.
func (k *SigningKey) Seed() []byte { return k.private.Seed() }

// Public is the key's public half.
func (k *SigningKey) Public() RelayKey { return RelayKey(k.private.Public().(ed25519.PublicKey)) }

// sign signs a body of a kind.
func (k *SigningKey) sign(kind string, body []byte) []byte {
	return ed25519.Sign(k.private, signed(kind, body))
}

func (k RelayKey) verify(kind string, body, signature []byte) bool {
	return ed25519.Verify(k[:], signed(kind, body), signature)
}

func signed(kind string, body []byte) []byte {
	return slices.Concat([]byte("trainrelay v1 "), []byte(kind), []byte{0}, body)
}

// Breach is why a message that has to be signed was not believed: what a
// broken or hostile broker, proxy or relay does.
type Breach struct {
	Kind    BreachKind
	Message string
}

// BreachKind is a stable word for a Breach, for scripts and metrics.
type BreachKind string

const (
	Unsigned     BreachKind = "unsigned"     // there is no signature
	UnknownKey   BreachKind = "unknown-key"  // signed with a key that is not trusted
	Forged       BreachKind = "forged"       // the signature is wrong: forged, or altered since
	Misaddressed BreachKind = "misaddressed" // signed for another cluster
	Replayed     BreachKind = "replayed"     // signed as the answer to another request
	Expired      BreachKind = "expired"      // the time to act on it is over
)

func (b *Breach) Error() string { return fmt.Sprintf("%s message refused: %s", b.Kind, b.Message) }

func breach(kind BreachKind, format string, args ...any) error {
	return &Breach{Kind: kind, Message: Cut(fmt.Sprintf(format, args...), MaxReason)}
}

// Signed is a message that a relay signs.
type Signed interface{ *SyncReply | *Enrolment }

// EncodeSigned checks m and returns its wire form, signed.
func EncodeSigned[M interface {
	Message
	Signed
}](m M, key *SigningKey) ([]byte, error) {
	kind := kindOf(m)
	body, err := encodeBody(kind, m)
	if err != nil {
		return nil, err
	}
	return encodeEnvelope(Envelope{V: Wire, Kind: kind, Body: body, Key: key.Public().ID(), Signature: key.sign(kind, body)})
}

// DecodeSigned is Decode for a message that has to carry the signature of one
// of the trusted keys. The error is a *Breach where it does not. What the body
// says, such as its cluster and nonce, is the caller's to compare.
func DecodeSigned[M interface {
	Message
	Signed
}](data []byte, m M, trusted []RelayKey) error {
	return decode(data, m, func(e Envelope) error {
		if len(e.Signature) == 0 {
			return breach(Unsigned, "it has no signature; was it sent by a relay of an older version?")
		}
		i := slices.IndexFunc(trusted, func(k RelayKey) bool { return k.ID() == e.Key })
		if i < 0 {
			return breach(UnknownKey, "it is signed with key %q, which this cluster does not trust: join it again with `trainrelay cluster connect` if the relay's key was replaced", Cut(e.Key, 40))
		}
		if !trusted[i].verify(e.Kind, e.Body, e.Signature) {
			return breach(Forged, "its signature is not that of key %s", e.Key)
		}
		return nil
	})
}

// Trust is what the agents of a relay trust: its signing keys, the newest last,
// and the authority of its certificate, PEM; empty where that is of a public
// one.
type Trust struct {
	Keys []RelayKey `json:"keys"`
	CA   string     `json:"ca,omitempty"`
}

// Digest tells one Trust from another: 16 hexadecimal digits.
func (t *Trust) Digest() string {
	data, err := json.Marshal(t)
	if err != nil { // keys and a string always marshal
		panic(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Validate says what is wrong with it.
func (t *Trust) Validate() error {
	if len(t.Keys) == 0 || len(t.Keys) > MaxRelayKeys {
		return fmt.Errorf("trust: %d keys, 1 to %d are allowed", len(t.Keys), MaxRelayKeys)
	}
	return checkLength("trust: ca", t.CA, MaxCA)
}

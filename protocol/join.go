package protocol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// joinPrefix lets people and scanners of leaked secrets tell what it is.
const joinPrefix = "trj_"

// JoinToken lets a cluster join once. It holds the seed of an Ed25519 key, of
// which the relay keeps the public half only, and the digest of the relay's
// signing key. So neither who reads the relay's records nor a proxy that looks
// into TLS learns it, and the agent knows the relay's answer from a forged one.
type JoinToken struct {
	seed  [ed25519.SeedSize]byte
	relay [16]byte // begin of the SHA-256 of the relay's key
}

// NewJoinToken makes a token of a relay that signs with key.
func NewJoinToken(key RelayKey) (JoinToken, error) {
	var t JoinToken
	if _, err := rand.Read(t.seed[:]); err != nil {
		return t, fmt.Errorf("make a join token: %w", err)
	}
	sum := sha256.Sum256(key[:])
	copy(t.relay[:], sum[:])
	return t, nil
}

// Text is the token as people hand it on. It is secret.
func (t JoinToken) Text() string {
	return joinPrefix + base64.RawURLEncoding.EncodeToString(append(t.seed[:], t.relay[:]...))
}

// ParseJoinToken reads a token. Its errors do not quote it.
func ParseJoinToken(text string) (JoinToken, error) {
	var t JoinToken
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), joinPrefix)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(raw) != len(t.seed)+len(t.relay) || strings.ContainsAny(rest, "\r\n") {
		return t, errors.New("not a join token: it begins with " + joinPrefix + " and is printed by `trainrelay cluster connect`")
	}
	copy(t.seed[:], raw)
	copy(t.relay[:], raw[len(t.seed):])
	return t, nil
}

// String hides the token from logs.
func (t JoinToken) String() string { return "join token " + t.ID() }

// ID is the public half of the token's key, by which the relay knows it: 64
// hexadecimal digits.
func (t JoinToken) ID() string {
	return hex.EncodeToString(ed25519.NewKeyFromSeed(t.seed[:]).Public().(ed25519.PublicKey))
}

// Trusts reports whether key is the one that the relay had when it made the
// token.
func (t JoinToken) Trusts(key RelayKey) bool {
	sum := sha256.Sum256(key[:])
	return subtle.ConstantTimeCompare(sum[:len(t.relay)], t.relay[:]) == 1
}

// Enrol is an agent's request to join: POST /v1/agent/enrol.
type Enrol struct {
	// Token is the ID of the join token.
	Token string `json:"token"`
	// PublicKey is the nkey (U…) that the cluster's agents will prove
	// themselves with.
	PublicKey string `json:"public_key"`
	// SealKey is the curve key (X…) to which secrets for the cluster are sealed.
	SealKey string `json:"seal_key"`
	// Nonce is fresh; the answer has it.
	Nonce string `json:"nonce"`
	// Proof is the signature of all this with the token's key.
	Proof []byte `json:"proof"`
}

func (e *Enrol) signed() []byte {
	return []byte(strings.Join([]string{"trainrelay v1 enrol", e.Token, e.PublicKey, e.SealKey, e.Nonce}, "\x00"))
}

// NewEnrol is the request to join with the token, for an agent with those keys.
func NewEnrol(t JoinToken, publicKey, sealKey string) *Enrol {
	e := &Enrol{Token: t.ID(), PublicKey: publicKey, SealKey: sealKey, Nonce: rand.Text()}
	e.Proof = ed25519.Sign(ed25519.NewKeyFromSeed(t.seed[:]), e.signed())
	return e
}

// Validate says what is wrong with the request, its proof included: that it
// was made by who has the token.
func (e *Enrol) Validate() error {
	public, err := hex.DecodeString(e.Token)
	switch {
	case err != nil || len(public) != ed25519.PublicKeySize || e.Token != strings.ToLower(e.Token):
		return errors.New("token: not the ID of a join token")
	case len(e.PublicKey) != nkeyLength || e.PublicKey[0] != 'U':
		return errors.New("public_key: not the public nkey of a user (U…)")
	case len(e.SealKey) != nkeyLength || e.SealKey[0] != 'X':
		return errors.New("seal_key: not a public curve key (X…)")
	case len(e.Nonce) < 16 || len(e.Nonce) > 64:
		return fmt.Errorf("nonce: %d characters, 16 to 64 are needed", len(e.Nonce))
	case !ed25519.Verify(public, e.signed(), e.Proof):
		return errors.New("proof: it was not made with this token, or the request was altered on its way")
	}
	return nil
}

// nkeyLength is that of a public nkey: 35 bytes in base32.
const nkeyLength = 56

// Enrolment is the relay's answer to an Enrol, signed with the key that the
// token names.
type Enrolment struct {
	Nonce   string `json:"nonce"`
	Cluster string `json:"cluster"` // the cluster that the agent is of from now on
	Trust   Trust  `json:"trust"`
}

// Validate says what is wrong with the message.
func (e *Enrolment) Validate() error {
	return errors.Join(CheckLabel("cluster", e.Cluster), e.Trust.Validate())
}

// OpenEnrolment reads the answer to a request that was made with the token, and
// believes only the relay that made the token. The error is a *Breach where it
// is another's.
func OpenEnrolment(data []byte, t JoinToken, request *Enrol) (*Enrolment, error) {
	// The key that signs is in the answer itself; the token says which it is.
	peek := new(Enrolment)
	if err := decode(data, peek, func(Envelope) error { return nil }); err != nil {
		return nil, err
	}
	var trusted []RelayKey
	for _, key := range peek.Trust.Keys {
		if t.Trusts(key) {
			trusted = append(trusted, key)
		}
	}
	e := new(Enrolment)
	if err := DecodeSigned(data, e, trusted); err != nil {
		return nil, err
	}
	if e.Nonce != request.Nonce {
		return nil, breach(Replayed, "it answers another request")
	}
	return e, nil
}

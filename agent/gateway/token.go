package gateway

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/trainrelay/trainrelay/protocol"
)

// Tokens makes and checks the tokens of attempts. Every agent of a cluster
// makes the same ones.
type Tokens struct{ key []byte }

// NewTokens derives the key of the tokens from a secret of the cluster's
// agents, of 32 bytes or more.
func NewTokens(seed []byte) (*Tokens, error) {
	if len(seed) < 32 {
		return nil, errors.New("gateway: the seed of tokens is too short to derive a key from")
	}
	key, err := hkdf.Key(sha256.New, seed, nil, "trainrelay gateway: tokens of attempts", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("gateway: derive the key of tokens: %w", err)
	}
	return &Tokens{key: key}, nil
}

// Token is the attempt's.
func (t *Tokens) Token(ref protocol.Ref) string {
	return base64.RawURLEncoding.EncodeToString(t.mac(ref))
}

// Mark is that of the attempt's Job in a namespace; see workload.AnnotationMark.
func (t *Tokens) Mark(ref protocol.Ref, namespace string) string {
	h := hmac.New(sha256.New, t.key)
	h.Write([]byte("job\x00" + namespace + "\x00" + ref.Job + "\x00" + strconv.Itoa(ref.Attempt)))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// check reports whether token is the attempt's, in a time that does not
// depend on what is wrong with it.
func (t *Tokens) check(ref protocol.Ref, token string) bool {
	mac, err := base64.RawURLEncoding.Strict().DecodeString(token)
	return hmac.Equal(mac, t.mac(ref)) && err == nil
}

func (t *Tokens) mac(ref protocol.Ref) []byte {
	h := hmac.New(sha256.New, t.key)
	h.Write([]byte("attempt\x00" + ref.Job + "\x00" + strconv.Itoa(ref.Attempt)))
	return h.Sum(nil)
}

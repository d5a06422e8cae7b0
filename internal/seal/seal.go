// Package seal closes values so that only the agents of one cluster can read
// them: neither the relay, its broker and disk, nor a proxy that looks into the
// connection. Users' programs seal, agents open; boxes are those of NATS' curve
// keys, xkeys.
//
// A box names, inside, the job that it was sealed for, the digest of that job's
// specification, and the use of the value there. Opened for anything else it is
// refused, so who can alter what the relay sends can neither use a value in a
// command of its own nor under another variable.
//
// # When things fail
//
// No error has a value in it, nor a seed.
package seal

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/protocol"
)

// MaxValue bounds a value, in bytes: its box is to fit protocol.MaxSealed.
const MaxValue = 11 << 10

// Purpose is what a value is for.
type Purpose struct {
	Job  string // its name
	Spec string // its digest, protocol.Job.Digest
	Use  string // UsePull, or that of a variable
}

// UsePull is the use of the configuration with which an image is pulled.
const UsePull = "pull"

// UseEnv is the use of a value as an environment variable.
func UseEnv(name string) string { return "env:" + name }

// contents are what is in a box.
type contents struct {
	Job   string `json:"job"`
	Spec  string `json:"spec"`
	Use   string `json:"use"`
	Value []byte `json:"value"`
}

// Seal closes a value for the cluster with the public curve key.
func Seal(to string, p Purpose, value []byte) (protocol.Sealed, error) {
	if len(value) > MaxValue {
		return protocol.Sealed{}, fmt.Errorf("seal %s: the value has %d bytes, at most %d are allowed", p.Use, len(value), MaxValue)
	}
	if !nkeys.IsValidPublicCurveKey(to) {
		return protocol.Sealed{}, fmt.Errorf("seal %s: the cluster's key %q is not a public curve key (X…)", p.Use, protocol.Cut(to, 80))
	}
	plain, err := json.Marshal(contents{Job: p.Job, Spec: p.Spec, Use: p.Use, Value: value})
	if err != nil {
		return protocol.Sealed{}, fmt.Errorf("seal %s: %w", p.Use, err)
	}
	key, err := nkeys.CreateCurveKeys() // for this box alone
	if err != nil {
		return protocol.Sealed{}, fmt.Errorf("seal %s: %w", p.Use, err)
	}
	defer key.Wipe()
	from, err := key.PublicKey()
	if err != nil {
		return protocol.Sealed{}, fmt.Errorf("seal %s: %w", p.Use, err)
	}
	box, err := key.Seal(plain, to)
	if err != nil {
		return protocol.Sealed{}, fmt.Errorf("seal %s: %w", p.Use, err)
	}
	sealed := protocol.Sealed{To: to, From: from, Box: box}
	if err := sealed.Validate(); err != nil {
		return protocol.Sealed{}, fmt.Errorf("seal %s: %w", p.Use, err)
	}
	return sealed, nil
}

// Open opens a box with the seed among those given that it was sealed to.
func Open(seeds [][]byte, p Purpose, sealed *protocol.Sealed) ([]byte, error) {
	if err := sealed.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Use, err)
	}
	key, err := keyOf(seeds, sealed.To)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Use, err)
	}
	defer key.Wipe()
	plain, err := key.Open(sealed.Box, sealed.From)
	if err != nil {
		return nil, fmt.Errorf("%s: its box does not open; it was altered on its way", p.Use)
	}
	var c contents
	switch {
	case json.Unmarshal(plain, &c) != nil: // whose error could quote the value
		return nil, fmt.Errorf("%s: what is in its box cannot be read", p.Use)
	case c.Job != p.Job:
		return nil, fmt.Errorf("%s: it was sealed for another job", p.Use)
	case c.Spec != p.Spec:
		return nil, fmt.Errorf("%s: it was sealed for another specification of the job", p.Use)
	case c.Use != p.Use:
		return nil, fmt.Errorf("%s: it was sealed for another use", p.Use)
	}
	return c.Value, nil
}

// keyOf finds the key that is public as to.
func keyOf(seeds [][]byte, to string) (nkeys.KeyPair, error) {
	for _, seed := range seeds {
		key, err := nkeys.FromCurveSeed(seed)
		if err != nil {
			return nil, errors.New("a seed of the cluster's seal keys cannot be read")
		}
		if public, err := key.PublicKey(); err == nil && public == to {
			return key, nil
		}
		key.Wipe()
	}
	return nil, fmt.Errorf("it was sealed to key %.8s…, which the cluster does not have (any more)", to)
}

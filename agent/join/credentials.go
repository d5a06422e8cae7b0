package join

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// maxSealSeeds bounds the keys that values may be sealed to: the newest, and
	// those of earlier joins, for jobs that were submitted before.
	maxSealSeeds    = 4
	gatewaySeedSize = 32
)

// Credentials are what the agents of a cluster prove themselves with, and what
// they trust. They are secret.
type Credentials struct {
	// Cluster is the name that the relay gave.
	Cluster string `json:"cluster"`
	// Seed is that of the nkey by which the relay knows the cluster.
	Seed string `json:"nkey_seed"`
	// SealSeeds are of the curve keys that values are sealed to, newest first.
	SealSeeds []string `json:"seal_seeds"`
	// GatewaySeed is what the tokens of training pods derive from. It outlives
	// the other keys, so that pods that are starting while the cluster joins
	// anew still get their code, from agents that have not started over yet, too.
	// It is made anew where the Secret was lost or taken away.
	GatewaySeed []byte         `json:"gateway_seed"`
	Trust       protocol.Trust `json:"trust"`
	// JoinedWith is the ID of the token that was used.
	JoinedWith string `json:"joined_with"`
}

// String keeps the seeds out of logs.
func (c Credentials) String() string { return "credentials of cluster " + c.Cluster }

// GoString likewise.
func (c Credentials) GoString() string { return c.String() }

// Equal reports whether an agent would work the same with both.
func (c Credentials) Equal(d Credentials) bool {
	return c.Cluster == d.Cluster && c.Seed == d.Seed && c.Trust.CA == d.Trust.CA
}

// validate says what is wrong, without quoting anything secret.
func (c *Credentials) validate() error {
	if err := protocol.CheckLabel("cluster", c.Cluster); err != nil {
		return err
	}
	if _, err := publicKey(c.Seed); err != nil {
		return fmt.Errorf("nkey_seed: %w", err)
	}
	if len(c.SealSeeds) == 0 {
		return errors.New("seal_seeds: there is none")
	}
	for _, seed := range c.SealSeeds {
		if _, err := sealKey(seed); err != nil {
			return fmt.Errorf("seal_seeds: %w", err)
		}
	}
	if len(c.GatewaySeed) < gatewaySeedSize {
		return fmt.Errorf("gateway_seed: %d bytes, %d are needed", len(c.GatewaySeed), gatewaySeedSize)
	}
	return checkTrust(&c.Trust)
}

// checkTrust refuses what an agent could not start with.
func checkTrust(t *protocol.Trust) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if t.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA)) {
		return errors.New("trust: ca: no certificate in it; PEM is expected")
	}
	return nil
}

// pending are the keys of a join that the relay may have heard of.
type pending struct {
	Seed     string `json:"nkey_seed"`
	SealSeed string `json:"seal_seed"`
	TokenID  string `json:"token_id"`
}

// newPending makes keys to join with.
func newPending(token protocol.JoinToken) (pending, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return pending{}, fmt.Errorf("make a key: %w", err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		return pending{}, fmt.Errorf("make a key to seal to: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return pending{}, fmt.Errorf("make a key: %w", err)
	}
	sealSeed, err := seal.Seed()
	if err != nil {
		return pending{}, fmt.Errorf("make a key to seal to: %w", err)
	}
	return pending{Seed: string(seed), SealSeed: string(sealSeed), TokenID: token.ID()}, nil
}

// request is what the relay is asked with.
func (p pending) request(token protocol.JoinToken) (*protocol.Enrol, error) {
	public, err := publicKey(p.Seed)
	if err != nil {
		return nil, err
	}
	seal, err := sealKey(p.SealSeed)
	if err != nil {
		return nil, err
	}
	return protocol.NewEnrol(token, public, seal), nil
}

// credentials are those of a join that the relay answered. What has to outlive
// a join comes from the credentials before, which may be missing.
func (p pending) credentials(answer *protocol.Enrolment, before Credentials) (Credentials, error) {
	made := Credentials{
		Cluster: answer.Cluster, Seed: p.Seed, SealSeeds: append([]string{p.SealSeed}, before.SealSeeds...),
		GatewaySeed: before.GatewaySeed, Trust: answer.Trust, JoinedWith: p.TokenID,
	}
	made.SealSeeds = made.SealSeeds[:min(len(made.SealSeeds), maxSealSeeds)]
	if len(made.GatewaySeed) == 0 {
		made.GatewaySeed = make([]byte, gatewaySeedSize)
		if _, err := rand.Read(made.GatewaySeed); err != nil {
			return made, fmt.Errorf("make a seed for the gateway: %w", err)
		}
	}
	return made, made.validate()
}

// publicKey is the public half (U…) of an nkey's seed.
func publicKey(seed string) (string, error) {
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return "", errors.New("not the seed of an nkey")
	}
	public, err := key.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return "", errors.New("not the seed of a user's nkey")
	}
	return public, nil
}

// sealKey is the public half (X…) of a curve key's seed.
func sealKey(seed string) (string, error) {
	key, err := nkeys.FromCurveSeed([]byte(seed))
	if err != nil {
		return "", errors.New("not the seed of a curve key")
	}
	return key.PublicKey()
}

// decode reads exactly one JSON object; its errors quote nothing.
func decode(data []byte, into any) error {
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		return errors.New("it is not the JSON that the agent writes")
	}
	return nil
}

// Package agentauth proves to the relay's HTTP side which cluster asks: a
// bearer token, signed with the nkey that the cluster's agent also connects
// with.
//
// A token is good for a minute, for one relay, and only while the cluster's
// key is known there; none of it has to be stored by either side. It is a JWT
// with one fixed header, so there is no algorithm to be talked into. A token
// that does not do is refused with the reason, which holds nothing secret.
package agentauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// Validity is how long a token is good for.
const Validity = time.Minute

// leeway is how far apart the clocks of agent and relay may be.
const leeway = time.Minute

// maxToken bounds what is looked at, in bytes; a real token has about 300.
const maxToken = 1 << 10

// claims are the token's middle part.
type claims struct {
	Issuer   string `json:"iss"` // public nkey of the agent
	Audience string `json:"aud"` // host name of the relay
	Expires  int64  `json:"exp"` // seconds since 1970
}

var encoding = base64.RawURLEncoding.Strict()

// header is the token's first part, always.
var header = encoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`))

// Sign makes a token for the relay that the agent reaches by the host name
// audience.
func Sign(kp nkeys.KeyPair, audience string, now time.Time) (string, error) {
	issuer, err := kp.PublicKey()
	if err != nil {
		return "", fmt.Errorf("sign agent's token: %w", err)
	}
	payload, err := json.Marshal(claims{Issuer: issuer, Audience: audience, Expires: now.Add(Validity).Unix()})
	if err != nil {
		return "", fmt.Errorf("sign agent's token: %w", err)
	}
	signed := header + "." + encoding.EncodeToString(payload)
	signature, err := kp.Sign([]byte(signed))
	if err != nil {
		return "", fmt.Errorf("sign agent's token: %w", err)
	}
	return signed + "." + encoding.EncodeToString(signature), nil
}

// Verifier is what the relay judges a token by.
type Verifier struct {
	// Audience reports whether the host name is one of the relay's.
	Audience func(host string) bool
	// Cluster is the cluster whose agent has the key.
	Cluster func(publicKey string) (cluster string, ok bool)
	Now     time.Time
}

// Verify returns the cluster that signed the token, or why it does not do.
func (v Verifier) Verify(token string) (cluster string, err error) {
	c, err := open(token)
	if err != nil {
		return "", fmt.Errorf("agent's token: %w", err)
	}
	cluster, ok := v.Cluster(c.Issuer)
	if !ok {
		return "", errors.New("agent's token: its key is of no cluster of this relay: add the cluster, or give the agent the key of one")
	}
	if c.Audience == "" || !v.Audience(c.Audience) {
		return "", fmt.Errorf("agent's token: made for %q, which is not a name of this relay: start it with --host, or let the agent use a name that it has", c.Audience)
	}
	until, now := time.Unix(c.Expires, 0).UTC(), v.Now.UTC()
	if now.After(until.Add(leeway)) || until.After(now.Add(Validity+leeway)) {
		return "", fmt.Errorf("agent's token: good until %s, here it is %s: set the clock of the cluster's node right",
			until.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return cluster, nil
}

// open returns the claims of a token that the claimed issuer has signed.
func open(token string) (claims, error) {
	var c claims
	if len(token) > maxToken {
		return c, errors.New("too long to be one")
	}
	parts := strings.Split(token, ".")
	// The decoder would skip line breaks.
	if len(parts) != 3 || parts[0] != header || strings.ContainsAny(token, "\r\n") {
		return c, errors.New("not one that an agent makes")
	}
	payload, payloadErr := encoding.DecodeString(parts[1])
	signature, signatureErr := encoding.DecodeString(parts[2])
	if err := errors.Join(payloadErr, signatureErr); err != nil {
		return c, errors.New("cut or altered")
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, errors.New("cut or altered")
	}
	if !nkeys.IsValidPublicUserKey(c.Issuer) {
		return claims{}, errors.New("not signed by an agent's key")
	}
	key, err := nkeys.FromPublicKey(c.Issuer)
	if err != nil {
		return claims{}, fmt.Errorf("not signed by an agent's key: %w", err)
	}
	if err := key.Verify([]byte(parts[0]+"."+parts[1]), signature); err != nil {
		return claims{}, errors.New("its signature is wrong")
	}
	return c, nil
}

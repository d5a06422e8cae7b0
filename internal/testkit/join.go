package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/protocol"
)

// Joined is an agent that has joined.
type Joined struct {
	Cluster string
	Key     nkeys.KeyPair
	Seal    nkeys.KeyPair
	Trust   protocol.Trust
}

// NewAgent makes the keys of an agent that has not joined yet.
func NewAgent() (*Joined, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seal, err := nkeys.CreateCurveKeys()
	return &Joined{Key: key, Seal: seal}, err
}

// Request is the agent's request to join with a token.
func (j *Joined) Request(token protocol.JoinToken) (*protocol.Enrol, error) {
	public, err := j.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	seal, err := j.Seal.PublicKey()
	if err != nil {
		return nil, err
	}
	return protocol.NewEnrol(token, public, seal), nil
}

// Join joins a relay over HTTP, with fresh keys.
func Join(ctx context.Context, client *http.Client, relayURL, token string) (*Joined, error) {
	t, err := protocol.ParseJoinToken(token)
	if err != nil {
		return nil, err
	}
	j, err := NewAgent()
	if err != nil {
		return nil, err
	}
	request, err := j.Request(t)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, relayURL+"/v1/agent/enrol", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(post)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, protocol.MaxMessage))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("join: %s: %s", resp.Status, answer)
	}
	enrolment, err := protocol.OpenEnrolment(answer, t, request)
	if err != nil {
		return nil, err
	}
	j.Cluster, j.Trust = enrolment.Cluster, enrolment.Trust
	return j, nil
}

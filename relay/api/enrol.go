package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/protocol"
)

const (
	enrolPath = "/v1/agent/enrol"
	// maxEnrol bounds the body of an agent's request to join.
	maxEnrol = 4 << 10
)

type (
	enrolInput  struct{ RawBody []byte }
	enrolOutput struct {
		ContentType  string `header:"Content-Type"`
		CacheControl string `header:"Cache-Control"`
		Body         []byte
	}
)

// enrolRoute lets an agent join with a token. It needs no other: the request is
// signed with the token's key, and the answer with the relay's.
func (a *API) enrolRoute(api huma.API) {
	op := operation(anybody, http.MethodPost, enrolPath, "enrol", "Join a cluster with a join token",
		http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity)
	op.Description = "401: the token is unknown. 410: it has expired, another key has joined with it, or the signing key that it names is retired. The same request again has the same answer."
	op.MaxBodyBytes = maxEnrol
	op.SkipValidateBody = true // parseEnrol does, and repeats nothing of it
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[protocol.Enrol](), true, "Enrol")},
	}}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The message \"enrolment\" in its envelope, signed.",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}}
	huma.Register(api, op, a.enrol)
}

func (a *API) enrol(ctx context.Context, in *enrolInput) (*enrolOutput, error) {
	e, err := parseEnrol(in.RawBody)
	if err != nil {
		return nil, huma.NewError(http.StatusUnprocessableEntity, "not a request to join: "+oneLine(err))
	}
	// Who has no token of ours leaves no trace: there may be many of them.
	if cluster, ok := a.opts.Setup.Joins(e.Token); ok {
		if err := a.auditAs(ctx, "agent:"+cluster, "cluster.enrol", cluster, "join token "+e.Token[:16]+", key "+e.PublicKey); err != nil {
			return nil, err
		}
	}
	cluster, key, err := a.opts.Setup.Enrol(ctx, e)
	if err != nil {
		return nil, a.fail(err)
	}
	a.friends.add(trailOf(ctx).remote)
	signed, err := a.opts.Enrolment(ctx, e, cluster, key)
	if err != nil {
		return nil, a.fail(err)
	}
	return &enrolOutput{ContentType: "application/json", CacheControl: "no-store", Body: signed}, nil
}

// parseEnrol reads an agent's request to join, and checks that who has the
// token made it.
func parseEnrol(body []byte) (*protocol.Enrol, error) {
	e := new(protocol.Enrol)
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("it is no JSON object as an agent sends it: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return e, e.Validate()
}

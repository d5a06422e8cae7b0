package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type whoamiOutput struct{ Body v1.Whoami }

// whoamiRoute lets an agent see that its key is accepted, and as whose.
func (a *API) whoamiRoute(api huma.API) {
	huma.Register(api, operation(anAgent, http.MethodGet, "/v1/agent/whoami", "whoami", "Say which cluster the agent's key is of"),
		func(ctx context.Context, _ *struct{}) (*whoamiOutput, error) {
			return &whoamiOutput{Body: v1.Whoami{Cluster: by(ctx)}}, nil
		})
}

package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// joinTime is how long a join token is good for.
const joinTime = time.Hour

type (
	disconnectInput struct {
		Name string `path:"name" maxLength:"63"`
		Body v1.DisconnectSettings
	}
	joinTokenOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         v1.JoinToken
	}
	disconnectionOutput struct{ Body v1.Disconnection }
	clusterOutput       struct{ Body v1.Cluster }
	clustersOutput      struct{ Body v1.ClusterList }
)

func (a *API) clusterRoutes(api huma.API) {
	connect := operation(admin, http.MethodPost, "/v1/clusters/{name}/connect", "connect-cluster", "Make a token with which a cluster's agent joins", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	connect.Description = "The token is good once, for an hour. A cluster that has joined keeps its key until an agent joins with the token; then the old key is void."
	huma.Register(api, connect, a.connectCluster)
	disconnect := operation(admin, http.MethodPost, "/v1/clusters/{name}/disconnect", "disconnect-cluster", "Revoke the key of a cluster, cut its agent off and forget the cluster", http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity)
	disconnect.Description = "Its computes and jobs stay, for a cluster of the same name."
	huma.Register(api, disconnect, func(ctx context.Context, in *disconnectInput) (*disconnectionOutput, error) {
		if err := a.audit(ctx, "cluster.disconnect", in.Name, in.Body.Jobs+" jobs"); err != nil {
			return nil, err
		}
		gone, err := a.opts.Setup.Disconnect(ctx, in.Name, by(ctx), in.Body.Jobs == v1.CancelJobs)
		if err != nil {
			return nil, a.fail(err)
		}
		return &disconnectionOutput{Body: gone}, nil
	})
	huma.Register(api, operation(reader, http.MethodGet, "/v1/clusters/{name}", "get-cluster", "Show a cluster", http.StatusNotFound),
		func(ctx context.Context, in *nameInput) (*clusterOutput, error) {
			cluster, err := a.opts.Setup.Cluster(ctx, in.Name)
			if err != nil {
				return nil, a.fail(err)
			}
			return &clusterOutput{Body: cluster}, nil
		})
	huma.Register(api, operation(reader, http.MethodGet, "/v1/clusters", "list-clusters", "List clusters by name"),
		func(ctx context.Context, _ *struct{}) (*clustersOutput, error) {
			clusters, err := a.opts.Setup.Clusters(ctx)
			if err != nil {
				return nil, a.fail(err)
			}
			return &clustersOutput{Body: v1.ClusterList{Value: clusters}}, nil
		})
}

func (a *API) connectCluster(ctx context.Context, in *nameInput) (*joinTokenOutput, error) {
	key := a.opts.SigningKey()
	token, err := protocol.NewJoinToken(key)
	if err != nil {
		return nil, a.fail(err)
	}
	if err := a.audit(ctx, "cluster.connect", in.Name, "join token "+token.ID()[:16]); err != nil {
		return nil, err
	}
	expires := time.Now().Add(joinTime).UTC().Truncate(time.Second)
	cluster, err := a.opts.Setup.Connect(ctx, in.Name, token.ID(), key.ID(), expires, by(ctx))
	if err != nil {
		return nil, a.fail(err)
	}
	return &joinTokenOutput{CacheControl: "no-store", Body: v1.JoinToken{Cluster: cluster, Token: token.Text(), Expires: expires}}, nil
}

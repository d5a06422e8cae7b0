package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/v1"
)

type (
	nameInput struct {
		Name string `path:"name" maxLength:"63"`
	}
	putComputeInput struct {
		Name string `path:"name" maxLength:"63"`
		Body v1.ComputeSettings
	}
	computeOutput struct {
		Status int
		Body   v1.Compute
	}
	computesOutput  struct{ Body v1.ComputeList }
	addClusterInput struct{ Body v1.ClusterSettings }
	newClusterOut   struct {
		CacheControl string `header:"Cache-Control"`
		Body         v1.NewCluster
	}
	clusterOutput  struct{ Body v1.Cluster }
	clustersOutput struct{ Body v1.ClusterList }
)

func (a *API) computeRoutes(api huma.API) {
	put := operation(admin, http.MethodPut, "/v1/computes/{name}", "put-compute", "Make a compute, or change its description", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	put.Description = "201 for a new one, 200 for one that was there; its cluster and namespace cannot change."
	put.DefaultStatus = http.StatusCreated
	huma.Register(api, put, func(ctx context.Context, in *putComputeInput) (*computeOutput, error) {
		if err := a.audit(ctx, "compute.put", in.Name, "namespace "+in.Body.Namespace+" of cluster "+in.Body.Cluster); err != nil {
			return nil, err
		}
		compute, created, err := a.opts.Setup.PutCompute(ctx, v1.Compute{
			Name: in.Name, Cluster: in.Body.Cluster, Namespace: in.Body.Namespace, Description: in.Body.Description,
		}, by(ctx))
		if err != nil {
			return nil, a.fail(err)
		}
		return &computeOutput{Status: createdOr200(created), Body: compute}, nil
	})
	huma.Register(api, operation(reader, http.MethodGet, "/v1/computes/{name}", "get-compute", "Show a compute", http.StatusNotFound),
		func(ctx context.Context, in *nameInput) (*computeOutput, error) {
			compute, err := a.opts.Setup.Compute(ctx, in.Name)
			if err != nil {
				return nil, a.fail(err)
			}
			return &computeOutput{Status: http.StatusOK, Body: compute}, nil
		})
	huma.Register(api, operation(reader, http.MethodGet, "/v1/computes", "list-computes", "List computes by name"),
		func(ctx context.Context, _ *struct{}) (*computesOutput, error) {
			computes, err := a.opts.Setup.Computes(ctx)
			if err != nil {
				return nil, a.fail(err)
			}
			return &computesOutput{Body: v1.ComputeList{Value: computes}}, nil
		})
}

func (a *API) clusterRoutes(api huma.API) {
	add := operation(admin, http.MethodPost, "/v1/clusters", "add-cluster", "Let the agent of a cluster connect", http.StatusConflict, http.StatusUnprocessableEntity)
	add.DefaultStatus = http.StatusCreated
	huma.Register(api, add, a.addCluster)
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
	remove := operation(admin, http.MethodDelete, "/v1/clusters/{name}", "delete-cluster", "Revoke the key of a cluster", http.StatusNotFound)
	remove.Description = "Its agents are cut off. Its computes and jobs stay, for a cluster of the same name."
	huma.Register(api, remove, func(ctx context.Context, in *nameInput) (*struct{}, error) {
		if err := a.audit(ctx, "cluster.disconnect", in.Name, ""); err != nil {
			return nil, err
		}
		if err := a.opts.Setup.DeleteCluster(ctx, in.Name); err != nil {
			return nil, a.fail(err)
		}
		return nil, nil
	})
}

// addCluster takes the agent's public key, or makes a pair and forgets the
// private half once it is answered.
func (a *API) addCluster(ctx context.Context, in *addClusterInput) (*newClusterOut, error) {
	public, seed := in.Body.PublicKey, ""
	if public == "" {
		var err error
		if public, seed, err = newKey(); err != nil {
			return nil, a.fail(err)
		}
	}
	if err := a.audit(ctx, "cluster.connect", in.Body.Name, ""); err != nil {
		return nil, err
	}
	cluster, err := a.opts.Setup.AddCluster(ctx, in.Body.Name, public, by(ctx))
	if err != nil {
		return nil, a.fail(err)
	}
	return &newClusterOut{CacheControl: "no-store", Body: v1.NewCluster{Cluster: cluster, Seed: seed}}, nil
}

func newKey() (public, seed string, _ error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("make an nkey: %w", err)
	}
	defer kp.Wipe()
	if public, err = kp.PublicKey(); err != nil {
		return "", "", fmt.Errorf("make an nkey: %w", err)
	}
	private, err := kp.Seed()
	if err != nil {
		return "", "", fmt.Errorf("make an nkey: %w", err)
	}
	return public, string(private), nil
}

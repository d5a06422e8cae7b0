package client

import (
	"context"
	"net/http"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// PutCompute makes a compute, or changes the description of one.
func (c *Client) PutCompute(ctx context.Context, want v1.Compute) (got v1.Compute, created bool, _ error) {
	settings := v1.ComputeSettings{Cluster: want.Cluster, Namespace: want.Namespace, Description: want.Description}
	status, err := c.call(ctx, http.MethodPut, path("computes", want.Name), settings, &got)
	return got, status == http.StatusCreated, err
}

// Compute is the compute of that name.
func (c *Client) Compute(ctx context.Context, name string) (compute v1.Compute, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("computes", name), nil, &compute)
	return compute, err
}

// Computes are all computes, by name.
func (c *Client) Computes(ctx context.Context) ([]v1.Compute, error) {
	var list v1.ComputeList
	_, err := c.call(ctx, http.MethodGet, path("computes"), nil, &list)
	return list.Value, err
}

// AddCluster lets the agent of a cluster connect, with a key that the relay
// makes; the answer has its seed.
func (c *Client) AddCluster(ctx context.Context, name string) (cluster v1.NewCluster, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("clusters"), v1.ClusterSettings{Name: name}, &cluster)
	return cluster, err
}

// Cluster is the cluster of that name.
func (c *Client) Cluster(ctx context.Context, name string) (cluster v1.Cluster, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("clusters", name), nil, &cluster)
	return cluster, err
}

// Clusters are all clusters, by name.
func (c *Client) Clusters(ctx context.Context) ([]v1.Cluster, error) {
	var list v1.ClusterList
	_, err := c.call(ctx, http.MethodGet, path("clusters"), nil, &list)
	return list.Value, err
}

// DeleteCluster revokes the key of a cluster.
func (c *Client) DeleteCluster(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, path("clusters", name), nil, nil)
	return err
}

package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// PutCompute attaches a compute, or changes the settings of one.
func (c *Client) PutCompute(ctx context.Context, name string, want v1.ComputeBody) (got v1.Compute, created bool, _ error) {
	status, err := c.call(ctx, http.MethodPut, path("computes", name), want, &got)
	return got, status == http.StatusCreated, err
}

// Detach takes a compute away; jobs is v1.KeepJobs or v1.CancelJobs. What it
// returns is Deleting where its jobs have to end first.
func (c *Client) Detach(ctx context.Context, name, jobs string) (compute v1.Compute, _ error) {
	at := path("computes", name)
	at.RawQuery = url.Values{"jobs": {jobs}}.Encode()
	_, err := c.call(ctx, http.MethodDelete, at, nil, &compute)
	return compute, err
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

// Connect makes a token with which the agent of a cluster joins, once.
func (c *Client) Connect(ctx context.Context, name string) (token v1.JoinToken, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("clusters", name, "connect"), nil, &token)
	return token, err
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

// Disconnect revokes the key of a cluster, cuts its agent off and forgets the
// cluster; jobs is v1.KeepJobs or v1.CancelJobs.
func (c *Client) Disconnect(ctx context.Context, name, jobs string) (gone v1.Disconnection, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("clusters", name, "disconnect"), v1.DisconnectSettings{Jobs: jobs}, &gone)
	return gone, err
}

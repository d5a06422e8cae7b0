package client

import (
	"context"
	"net/http"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// PutExtension makes the extension of a cluster, or gives it other settings.
func (c *Client) PutExtension(ctx context.Context, cluster, name string, want v1.ExtensionSettings) (got v1.Extension, created bool, _ error) {
	status, err := c.call(ctx, http.MethodPut, path("clusters", cluster, "extensions", name), want, &got)
	return got, status == http.StatusCreated, err
}

// DeleteExtension forgets the extension of a cluster.
func (c *Client) DeleteExtension(ctx context.Context, cluster, name string) error {
	_, err := c.call(ctx, http.MethodDelete, path("clusters", cluster, "extensions", name), nil, nil)
	return err
}

// Extension is the extension of that name in the cluster.
func (c *Client) Extension(ctx context.Context, cluster, name string) (extension v1.Extension, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("clusters", cluster, "extensions", name), nil, &extension)
	return extension, err
}

// Extensions are those of a cluster.
func (c *Client) Extensions(ctx context.Context, cluster string) ([]v1.Extension, error) {
	var list v1.ExtensionList
	_, err := c.call(ctx, http.MethodGet, path("clusters", cluster, "extensions"), nil, &list)
	return list.Value, err
}

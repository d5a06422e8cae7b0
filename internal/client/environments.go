package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// PutEnvironment registers a version of an environment.
func (c *Client) PutEnvironment(ctx context.Context, name, version string, want v1.EnvironmentSettings) (got v1.EnvironmentVersion, created bool, _ error) {
	status, err := c.call(ctx, http.MethodPut, path("environments", name, "versions", version), want, &got)
	return got, status == http.StatusCreated, err
}

// DeleteEnvironment forgets a version of an environment.
func (c *Client) DeleteEnvironment(ctx context.Context, name, version string) error {
	_, err := c.call(ctx, http.MethodDelete, path("environments", name, "versions", version), nil, nil)
	return err
}

// Environment is a version of an environment; v1.LatestVersion stands for the
// one that was registered last.
func (c *Client) Environment(ctx context.Context, name, version string) (environment v1.EnvironmentVersion, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("environments", name, "versions", version), nil, &environment)
	return environment, err
}

// Environments are all versions of an environment, or of all for an empty name.
func (c *Client) Environments(ctx context.Context, name string) ([]v1.EnvironmentVersion, error) {
	var list v1.EnvironmentList
	at := path("environments")
	if name != "" {
		at.RawQuery = url.Values{"name": {name}}.Encode()
	}
	_, err := c.call(ctx, http.MethodGet, at, nil, &list)
	return list.Value, err
}

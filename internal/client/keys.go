package client

import (
	"context"
	"net/http"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// Keys are the relay's signing keys, the newest first.
func (c *Client) Keys(ctx context.Context) ([]v1.Key, error) {
	var list v1.KeyList
	_, err := c.call(ctx, http.MethodGet, path("keys"), nil, &list)
	return list.Value, err
}

// RotateKey makes a signing key, the newest from then on.
func (c *Client) RotateKey(ctx context.Context) (key v1.Key, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("keys", "rotate"), nil, &key)
	return key, err
}

// RetireKey ends a signing key; force also where clusters need it.
func (c *Client) RetireKey(ctx context.Context, id string, force bool) (retired v1.RetiredKey, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("keys", id, "retire"), v1.RetireSettings{Force: force}, &retired)
	return retired, err
}

package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// WhoAmI is whose token the client has.
func (c *Client) WhoAmI(ctx context.Context) (who v1.Identity, _ error) {
	_, err := c.call(ctx, http.MethodGet, path("whoami"), nil, &who)
	return who, err
}

// CreateToken makes a token; the answer has it.
func (c *Client) CreateToken(ctx context.Context, want v1.TokenSettings) (token v1.NewToken, _ error) {
	_, err := c.call(ctx, http.MethodPost, path("tokens"), want, &token)
	return token, err
}

// Tokens are all tokens, by name.
func (c *Client) Tokens(ctx context.Context) ([]v1.Token, error) {
	var list v1.TokenList
	_, err := c.call(ctx, http.MethodGet, path("tokens"), nil, &list)
	return list.Value, err
}

// RevokeToken voids a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, path("tokens", name), nil, nil)
	return err
}

// AuditQuery selects entries of the audit log; an empty field selects all.
type AuditQuery struct {
	Since         time.Time
	Actor, Action string
	Limit         int // entries in all; 0 for no limit
}

// Audit yields entries of the audit log, newest first. An error is yielded
// last.
func (c *Client) Audit(ctx context.Context, q AuditQuery) iter.Seq2[v1.AuditEntry, error] {
	return func(yield func(v1.AuditEntry, error) bool) {
		values := url.Values{}
		for name, value := range map[string]string{"actor": q.Actor, "action": q.Action} {
			if value != "" {
				values.Set(name, value)
			}
		}
		if !q.Since.IsZero() {
			values.Set("since", q.Since.UTC().Format(time.RFC3339))
		}
		left := q.Limit
		if left > 0 {
			values.Set("limit", strconv.Itoa(min(left, maxPage)))
		}
		page := path("audit")
		page.RawQuery = values.Encode()
		for page != nil {
			var list v1.AuditList
			_, err := c.call(ctx, http.MethodGet, page, nil, &list)
			if err == nil {
				page, err = nextPage(list.NextLink)
			}
			if err != nil {
				yield(v1.AuditEntry{}, err)
				return
			}
			for _, entry := range list.Value {
				if !yield(entry, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
		}
	}
}

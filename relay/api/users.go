package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

type (
	createTokenInput struct{ Body v1.TokenSettings }
	newTokenOutput   struct {
		CacheControl string `header:"Cache-Control"`
		Body         v1.NewToken
	}
	tokensOutput   struct{ Body v1.TokenList }
	identityOutput struct{ Body v1.Identity }

	auditInput struct {
		Since  time.Time `query:"since" doc:"only what is not older"`
		Actor  string    `query:"actor" maxLength:"256" doc:"a token's name, or agent:CLUSTER"`
		Action string    `query:"action" maxLength:"256" doc:"such as token.create; token.* is all of tokens"`
		Limit  int       `query:"limit" minimum:"0" maximum:"500" doc:"entries in a page; 0 for 100"`
		Cursor uint64    `query:"cursor" doc:"of next_link of the page before"`
	}
	auditOutput struct{ Body v1.AuditList }
)

func (a *API) userRoutes(api huma.API) {
	huma.Register(api, operation(reader, http.MethodGet, "/v1/whoami", "who-am-i", "Show whose token it is"),
		func(ctx context.Context, _ *struct{}) (*identityOutput, error) {
			return &identityOutput{Body: whoIs(ctx)}, nil
		})
	create := operation(admin, http.MethodPost, "/v1/tokens", "create-token", "Make a token", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	create.Description = "The answer has the token, this once. Where the answer is lost, so is the token: revoke it and make another."
	create.DefaultStatus = http.StatusCreated
	huma.Register(api, create, a.createToken)
	huma.Register(api, operation(admin, http.MethodGet, "/v1/tokens", "list-tokens", "List tokens by name"),
		func(ctx context.Context, _ *struct{}) (*tokensOutput, error) {
			tokens, err := a.opts.Tokens.Tokens(ctx)
			if err != nil {
				return nil, a.fail(err)
			}
			return &tokensOutput{Body: v1.TokenList{Value: tokens}}, nil
		})
	revoke := operation(admin, http.MethodDelete, "/v1/tokens/{name}", "revoke-token", "Void a token", http.StatusNotFound)
	revoke.Description = "At once; streams that it opened end within seconds. What was done with it stays done."
	huma.Register(api, revoke, func(ctx context.Context, in *nameInput) (*struct{}, error) {
		if err := a.audit(ctx, "token.revoke", in.Name, ""); err != nil {
			return nil, err
		}
		if err := a.opts.Tokens.RevokeToken(ctx, in.Name); err != nil {
			return nil, a.fail(err)
		}
		return nil, nil
	})
	huma.Register(api, operation(admin, http.MethodGet, "/v1/audit", "list-audit", "List who changed what, newest first", http.StatusUnprocessableEntity), a.listAudit)
}

func (a *API) createToken(ctx context.Context, in *createTokenInput) (*newTokenOutput, error) {
	detail := fmt.Sprintf("role %s, for %v", in.Body.Role, time.Duration(in.Body.ExpiresIn)*time.Second)
	if in.Body.ExpiresIn == 0 {
		detail = fmt.Sprintf("role %s", in.Body.Role)
	}
	if err := a.audit(ctx, "token.create", in.Body.Name, detail); err != nil {
		return nil, err
	}
	token, err := a.opts.Tokens.CreateToken(ctx, in.Body, by(ctx))
	if err != nil {
		return nil, a.fail(err)
	}
	return &newTokenOutput{CacheControl: "no-store", Body: token}, nil
}

func (a *API) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	entries, next, err := a.opts.Audit.List(ctx, AuditQuery{Since: in.Since, Actor: in.Actor, Action: in.Action, Limit: in.Limit, Before: in.Cursor})
	if err != nil {
		return nil, a.fail(err)
	}
	list := v1.AuditList{Value: entries}
	if next > 0 {
		values := url.Values{"cursor": {strconv.FormatUint(next, 10)}}
		for name, value := range map[string]string{"actor": in.Actor, "action": in.Action} {
			if value != "" {
				values.Set(name, value)
			}
		}
		if !in.Since.IsZero() {
			values.Set("since", in.Since.UTC().Format(time.RFC3339Nano))
		}
		if in.Limit > 0 {
			values.Set("limit", strconv.Itoa(in.Limit))
		}
		list.NextLink = "/v1/audit?" + values.Encode()
	}
	return &auditOutput{Body: list}, nil
}

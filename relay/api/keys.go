package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// Keys are the relay's signing keys.
type Keys interface {
	Keys() []v1.Key // the newest first
	RotateKey(by string) (v1.Key, error)
	RetireKey(id string, force bool) (v1.RetiredKey, error)
}

type (
	keyOutput     struct{ Body v1.Key }
	keysOutput    struct{ Body v1.KeyList }
	retiredOutput struct{ Body v1.RetiredKey }
	retireInput   struct {
		ID   string `path:"id" maxLength:"16"`
		Body v1.RetireSettings
	}
)

func (a *API) keyRoutes(api huma.API) {
	huma.Register(api, operation(reader, http.MethodGet, "/v1/keys", "list-keys", "List the relay's signing keys"),
		func(context.Context, *struct{}) (*keysOutput, error) {
			return &keysOutput{Body: v1.KeyList{Value: a.opts.Keys.Keys()}}, nil
		})
	rotate := operation(admin, http.MethodPost, "/v1/keys/rotate", "rotate-key", "Make a signing key", http.StatusConflict)
	rotate.Description = "Agents are told of it under a key that they trust, and are answered with it once they say that they trust it."
	rotate.DefaultStatus = http.StatusCreated
	huma.Register(api, rotate, func(ctx context.Context, _ *struct{}) (*keyOutput, error) {
		if err := a.audit(ctx, "key.rotate", "", ""); err != nil {
			return nil, err
		}
		key, err := a.opts.Keys.RotateKey(by(ctx))
		if err != nil {
			return nil, a.fail(err)
		}
		return &keyOutput{Body: key}, nil
	})
	retire := operation(admin, http.MethodPost, "/v1/keys/{id}/retire", "retire-key", "Retire a signing key", http.StatusNotFound, http.StatusConflict)
	retire.Description = "409 for the newest one, and, unless force is set, for one that a cluster needs."
	huma.Register(api, retire, func(ctx context.Context, in *retireInput) (*retiredOutput, error) {
		detail := ""
		if in.Body.Force {
			detail = "force"
		}
		if err := a.audit(ctx, "key.retire", in.ID, detail); err != nil {
			return nil, err
		}
		retired, err := a.opts.Keys.RetireKey(in.ID, in.Body.Force)
		if err != nil {
			return nil, a.fail(err)
		}
		return &retiredOutput{Body: retired}, nil
	})
}

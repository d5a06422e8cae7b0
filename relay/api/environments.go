package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

type (
	environmentInput struct {
		Name    string `path:"name" maxLength:"255"`
		Version string `path:"version" maxLength:"30" doc:"a version, or latest where one is shown"`
	}
	environmentsInput struct {
		Name string `query:"name" maxLength:"255" doc:"only versions of this environment"`
	}
	putEnvironmentInput struct {
		Name    string `path:"name" maxLength:"255"`
		Version string `path:"version" maxLength:"30"`
		Body    v1.EnvironmentSettings
	}
	environmentOutput struct {
		Status int
		Body   v1.EnvironmentVersion
	}
	environmentsOutput struct{ Body v1.EnvironmentList }
)

const environmentPath = "/v1/environments/{name}/versions/{version}"

func (a *API) environmentRoutes(api huma.API) {
	put := operation(contributor, http.MethodPut, environmentPath, "put-environment", "Register a version of an environment", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	put.Description = "201 for a new one, 200 for one that was there, 409 where it has another image."
	put.DefaultStatus = http.StatusCreated
	huma.Register(api, put, func(ctx context.Context, in *putEnvironmentInput) (*environmentOutput, error) {
		if err := a.audit(ctx, "environment.put", in.Name+":"+in.Version, "image "+in.Body.Image); err != nil {
			return nil, err
		}
		environment, created, err := a.opts.Setup.PutEnvironment(ctx, in.Name, in.Version, in.Body, by(ctx))
		if err != nil {
			return nil, a.fail(err)
		}
		return &environmentOutput{Status: createdOr200(created), Body: environment}, nil
	})
	remove := operation(admin, http.MethodDelete, environmentPath, "delete-environment", "Forget a version of an environment", http.StatusNotFound, http.StatusConflict)
	remove.Description = "Jobs that were made with it keep their image."
	huma.Register(api, remove, func(ctx context.Context, in *environmentInput) (*struct{}, error) {
		if err := a.audit(ctx, "environment.delete", in.Name+":"+in.Version, ""); err != nil {
			return nil, err
		}
		if err := a.opts.Setup.DeleteEnvironment(ctx, in.Name, in.Version); err != nil {
			return nil, a.fail(err)
		}
		return nil, nil
	})
	huma.Register(api, operation(reader, http.MethodGet, environmentPath, "get-environment", "Show a version of an environment", http.StatusNotFound),
		func(ctx context.Context, in *environmentInput) (*environmentOutput, error) {
			environment, err := a.opts.Setup.Environment(ctx, in.Name, in.Version)
			if err != nil {
				return nil, a.fail(err)
			}
			return &environmentOutput{Status: http.StatusOK, Body: environment}, nil
		})
	huma.Register(api, operation(reader, http.MethodGet, "/v1/environments", "list-environments", "List versions of environments, by name, newest first"),
		func(ctx context.Context, in *environmentsInput) (*environmentsOutput, error) {
			environments, err := a.opts.Setup.Environments(ctx, in.Name)
			if err != nil {
				return nil, a.fail(err)
			}
			return &environmentsOutput{Body: v1.EnvironmentList{Value: environments}}, nil
		})
}

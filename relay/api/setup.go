package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
)

type (
	nameInput struct {
		Name string `path:"name" maxLength:"63"`
	}
	putComputeInput struct {
		Name string `path:"name" maxLength:"63"`
		Body v1.ComputeBody
	}
	detachInput struct {
		Name string `path:"name" maxLength:"63"`
		Jobs string `query:"jobs" enum:"keep,cancel" default:"keep" doc:"cancel: end its unfinished jobs, and take it away once they have; keep: refuse while there are any"`
	}
	computeOutput struct {
		Status int
		Body   v1.Compute
	}
	computesOutput struct{ Body v1.ComputeList }
)

func (a *API) computeRoutes(api huma.API) {
	put := operation(admin, http.MethodPut, "/v1/computes/{name}", "put-compute", "Attach a compute, or change its settings", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	put.Description = "201 for a new one, 200 for one that was there; its cluster and namespace cannot change."
	put.DefaultStatus = http.StatusCreated
	huma.Register(api, put, func(ctx context.Context, in *putComputeInput) (*computeOutput, error) {
		if err := a.audit(ctx, "compute.put", in.Name, "namespace "+in.Body.Namespace+" of cluster "+in.Body.Cluster); err != nil {
			return nil, err
		}
		compute, created, err := a.opts.Setup.PutCompute(ctx, in.Name, in.Body, by(ctx))
		if err != nil {
			return nil, a.fail(err)
		}
		return &computeOutput{Status: createdOr200(created), Body: compute}, nil
	})
	detach := operation(admin, http.MethodDelete, "/v1/computes/{name}", "detach-compute", "Detach a compute", http.StatusNotFound, http.StatusConflict)
	detach.Description = "Answers with the compute as it is then: gone, or Deleting until its jobs have ended."
	huma.Register(api, detach, func(ctx context.Context, in *detachInput) (*computeOutput, error) {
		if err := a.audit(ctx, "compute.detach", in.Name, in.Jobs+" jobs"); err != nil {
			return nil, err
		}
		compute, err := a.opts.Setup.Detach(ctx, in.Name, by(ctx), in.Jobs == v1.CancelJobs)
		if err != nil {
			return nil, a.fail(err)
		}
		return &computeOutput{Status: http.StatusOK, Body: compute}, nil
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

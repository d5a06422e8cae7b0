package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

type (
	submitInput struct{ Body protocol.Job }
	jobInput    struct {
		Name string `path:"name" maxLength:"254"`
	}
	jobOutput struct {
		Status int
		Body   v1.Job
	}
	jobsInput struct {
		Status     string `query:"status" doc:"a job status such as Running"`
		Compute    string `query:"compute"`
		Experiment string `query:"experiment"`
		Limit      int    `query:"limit" minimum:"0" maximum:"500" doc:"jobs in a page; 0 for 50"`
		Cursor     string `query:"cursor" maxLength:"1000" doc:"of next_link of the page before"`
	}
	jobsOutput struct{ Body v1.JobList }
)

func (a *API) jobRoutes(api huma.API) {
	submit := operation(contributor, http.MethodPost, "/v1/jobs", "submit-job", "Queue a job", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	submit.Description = "Idempotent: the same job under the same name is the same job. 201 for a new one, 200 for one that was there, 409 where another job has the name."
	submit.DefaultStatus = http.StatusCreated
	huma.Register(api, submit, a.submit)
	huma.Register(api, operation(reader, http.MethodGet, "/v1/jobs", "list-jobs", "List jobs, newest first", http.StatusUnprocessableEntity), a.jobs)
	huma.Register(api, operation(reader, http.MethodGet, "/v1/jobs/{name}", "get-job", "Show a job", http.StatusNotFound), a.job)
	cancel := operation(contributor, http.MethodPost, "/v1/jobs/{name}/cancel", "cancel-job", "Cancel a job", http.StatusNotFound)
	cancel.Description = "Final at once while no cluster has the job; else its status is CancelRequested until the cluster has stopped it. A job that has ended stays as it is."
	huma.Register(api, cancel, a.cancel)
}

func (a *API) submit(ctx context.Context, in *submitInput) (*jobOutput, error) {
	if err := in.Body.Validate(); err != nil {
		return nil, invalid("the job", err)
	}
	if code := in.Body.Code; code != "" {
		found, err := a.opts.Snapshots.Has(ctx, code)
		if err != nil {
			return nil, a.fail(err)
		}
		if !found {
			return nil, invalid("the job", fmt.Errorf("code: the relay has no snapshot %s; send it first, with PUT /v1/snapshots/%s", code, code))
		}
	}
	if err := a.audit(ctx, "job.submit", in.Body.Name, "compute "+in.Body.Compute+", image "+in.Body.Image); err != nil {
		return nil, err
	}
	job, created, err := a.opts.Jobs.Submit(ctx, in.Body, by(ctx))
	if err != nil {
		return nil, a.fail(err)
	}
	return &jobOutput{Status: createdOr200(created), Body: job}, nil
}

func createdOr200(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (a *API) job(ctx context.Context, in *jobInput) (*jobOutput, error) {
	job, err := a.opts.Jobs.Job(ctx, in.Name)
	if err != nil {
		return nil, a.fail(err)
	}
	return &jobOutput{Status: http.StatusOK, Body: job}, nil
}

func (a *API) cancel(ctx context.Context, in *jobInput) (*jobOutput, error) {
	if _, err := a.opts.Jobs.Job(ctx, in.Name); a.opts.Status(err) == http.StatusNotFound {
		return nil, a.fail(err) // which changes nothing, and fills no audit log
	}
	if err := a.audit(ctx, "job.cancel", in.Name, ""); err != nil {
		return nil, err
	}
	job, err := a.opts.Jobs.Cancel(ctx, in.Name, by(ctx))
	if err != nil {
		return nil, a.fail(err)
	}
	return &jobOutput{Status: http.StatusOK, Body: job}, nil
}

func (a *API) jobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	if err := checkStatus(in.Status); err != nil {
		return nil, err
	}
	jobs, next, err := a.opts.Jobs.Jobs(ctx, Query{
		Status: protocol.State(in.Status), Compute: in.Compute, Experiment: in.Experiment, Limit: in.Limit, After: in.Cursor,
	})
	if err != nil {
		return nil, a.fail(err)
	}
	list := v1.JobList{Value: jobs}
	if next != "" {
		list.NextLink = nextLink(in, next)
	}
	return &jobsOutput{Body: list}, nil
}

// checkStatus refuses a status that no job can have: its list would be empty
// for ever.
func checkStatus(status string) error {
	if status == "" {
		return nil
	}
	known := append(protocol.States(), protocol.NotResponding)
	for _, s := range known {
		if string(s) == status {
			return nil
		}
	}
	return huma.NewError(http.StatusUnprocessableEntity, "the query is not valid: correct what is listed",
		&huma.ErrorDetail{Location: "query.status", Message: fmt.Sprintf("is none of %v", known), Value: status})
}

// nextLink is the path and query of the next page.
func nextLink(in *jobsInput, cursor string) string {
	values := url.Values{"cursor": {cursor}}
	for name, value := range map[string]string{"status": in.Status, "compute": in.Compute, "experiment": in.Experiment} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if in.Limit > 0 {
		values.Set("limit", strconv.Itoa(in.Limit))
	}
	return "/v1/jobs?" + values.Encode()
}

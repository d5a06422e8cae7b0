package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

type (
	extensionInput struct {
		Cluster string `path:"cluster" maxLength:"63"`
		Name    string `path:"name" maxLength:"63"`
	}
	extensionsInput struct {
		Cluster string `path:"cluster" maxLength:"63"`
	}
	putExtensionInput struct {
		Cluster string `path:"cluster" maxLength:"63"`
		Name    string `path:"name" maxLength:"63"`
		Body    v1.ExtensionSettings
	}
	extensionOutput struct {
		Status int
		Body   v1.Extension
	}
	extensionsOutput struct{ Body v1.ExtensionList }
)

const extensionPath = "/v1/clusters/{cluster}/extensions"

func (a *API) extensionRoutes(api huma.API) {
	put := operation(admin, http.MethodPut, extensionPath+"/{name}", "put-extension", "Make the extension of a cluster, or give it other settings", http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	put.Description = "201 for a new one, 200 for one that was there. It is installed by an admin of the cluster, who applies the settings as values of the agent's chart; the relay only says what is wanted, and shows what the agent finds."
	put.DefaultStatus = http.StatusCreated
	huma.Register(api, put, func(ctx context.Context, in *putExtensionInput) (*extensionOutput, error) {
		if err := a.audit(ctx, "extension.put", in.Name, "cluster "+in.Cluster+": "+settingsText(in.Body.Settings)); err != nil {
			return nil, err
		}
		extension, created, err := a.opts.Setup.PutExtension(ctx, in.Cluster, in.Name, in.Body, by(ctx))
		if err != nil {
			return nil, a.fail(err)
		}
		return &extensionOutput{Status: createdOr200(created), Body: extension}, nil
	})
	remove := operation(admin, http.MethodDelete, extensionPath+"/{name}", "delete-extension", "Forget the extension of a cluster", http.StatusNotFound, http.StatusConflict)
	remove.Description = "What is installed stays until an admin of the cluster takes it away."
	huma.Register(api, remove, func(ctx context.Context, in *extensionInput) (*struct{}, error) {
		if err := a.audit(ctx, "extension.delete", in.Name, "cluster "+in.Cluster); err != nil {
			return nil, err
		}
		if err := a.opts.Setup.DeleteExtension(ctx, in.Cluster, in.Name); err != nil {
			return nil, a.fail(err)
		}
		return nil, nil
	})
	huma.Register(api, operation(reader, http.MethodGet, extensionPath+"/{name}", "get-extension", "Show an extension of a cluster", http.StatusNotFound),
		func(ctx context.Context, in *extensionInput) (*extensionOutput, error) {
			extension, err := a.opts.Setup.ExtensionOf(ctx, in.Cluster, in.Name)
			if err != nil {
				return nil, a.fail(err)
			}
			return &extensionOutput{Status: http.StatusOK, Body: extension}, nil
		})
	huma.Register(api, operation(reader, http.MethodGet, extensionPath, "list-extensions", "List the extensions of a cluster", http.StatusNotFound),
		func(ctx context.Context, in *extensionsInput) (*extensionsOutput, error) {
			extensions, err := a.opts.Setup.Extensions(ctx, in.Cluster)
			if err != nil {
				return nil, a.fail(err)
			}
			return &extensionsOutput{Body: v1.ExtensionList{Value: extensions}}, nil
		})
}

// settingsText is settings as the audit log has them: no secret is one.
func settingsText(settings map[string]string) string {
	words := make([]string, 0, len(settings))
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		words = append(words, key+"="+settings[key])
	}
	if len(words) == 0 {
		return "all settings by default"
	}
	return protocol.Cut(strings.Join(words, " "), protocol.MaxReason)
}

package api

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// routes assembles everything that is served.
func (a *API) routes() (http.Handler, error) {
	proxy, err := a.natsProxy()
	if err != nil {
		return nil, err
	}
	// Whatever is mounted looks at who may call it.
	mount := func(mux *http.ServeMux, c huma.Config) huma.API {
		api := humago.New(mux, c)
		api.UseMiddleware(a.allow(api))
		return api
	}
	user := http.NewServeMux()
	api := mount(user, a.config())
	a.jobRoutes(api)
	a.computeRoutes(api)
	a.clusterRoutes(api)
	a.extensionRoutes(api)
	a.environmentRoutes(api)
	a.snapshotRoutes(api)
	a.keyRoutes(api)
	a.streamRoute(api)
	a.logRoute(api)
	a.userRoutes(api)
	user.Handle("GET /metrics", a.opts.Metrics)
	user.HandleFunc("/", notFound)

	agent := http.NewServeMux()
	agentAPI := mount(agent, a.agentConfig(api))
	a.agentRoutes(agentAPI)
	a.whoamiRoute(agentAPI)
	agent.HandleFunc("/", notFound)

	joining := http.NewServeMux()
	a.enrolRoute(mount(joining, a.agentConfig(api)))
	joining.HandleFunc("/", notFound)

	mux := http.NewServeMux()
	mux.Handle("GET /healthz", a.opts.Health)
	mux.Handle("GET /readyz", a.opts.Health)
	mux.Handle("/nats", proxy)
	mux.Handle(enrolPath, a.trace(joining))
	mux.Handle("/v1/agent/", a.trace(a.forAgents(agent)))
	mux.Handle("/", a.trace(a.forUsers(user)))
	return a.observe(mux), nil
}

// config is the API's description; operations add themselves to it.
func (a *API) config() huma.Config {
	c := huma.DefaultConfig("trainrelay", a.opts.Version)
	c.Info.Description = "Train on Kubernetes clusters that nobody can reach from outside."
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"user":  {Type: "http", Scheme: "bearer", Description: "the token in client.json; an operation names the role that it must have, admin, contributor or reader, each of which includes those behind it"},
		"agent": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "signed by a cluster's agent with its nkey; good for a minute"},
	}
	// No page that loads scripts from elsewhere, and bodies as they are
	// described, without links to schemas.
	c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", nil
	c.RejectUnknownQueryParameters = true
	return c
}

// agentConfig adds the agents' operations to the users' description, and
// serves none of its own.
func (a *API) agentConfig(users huma.API) huma.Config {
	c := a.config()
	c.OpenAPI = users.OpenAPI()
	c.OpenAPIPath = ""
	return c
}

// schemaName tells the two kinds of job apart.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if name == "Job" && strings.HasSuffix(t.PkgPath(), "/protocol") {
		return "JobSpecification"
	}
	return name
}

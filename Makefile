# What can be done here: make help. A target without a ## comment is part of another.

export CGO_ENABLED = 0
# Building does not depend on who owns the checkout; the version comes from LDFLAGS.
# The same flags everywhere, so that everything shares one build cache.
export GOFLAGS = -buildvcs=false
# The Go that everything is built and tested with, whichever is installed: it comes as a module,
# and is raised when a release mends what make vulncheck finds.
export GOTOOLCHAIN = go1.26.10

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/trainrelay/trainrelay/internal/version.number=$(VERSION)

# What Kubernetes' programs call themselves; without it v0.0.0-master, which clients refuse.
KUBERNETES := v1.37.2
KUBERNETES_LDFLAGS := -s -w \
	-X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
	-X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=37 \
	-X k8s.io/client-go/pkg/version.gitVersion=$(KUBERNETES)

GO_FOLDERS := agent deploy e2e internal protocol relay
STATICCHECK := tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck
GOVULNCHECK := tool -modfile=$(CURDIR)/.ci/tools/go.mod govulncheck
# Without the mains that link Kubernetes and CoreDNS, whose whole source would be read.
LINTED = $$(go -C e2e list ./... | grep -vE '/cmd/(k8s|coredns)$$')
LAB := go -C e2e run ./cmd/lab
MAKE_QUIETLY := $(MAKE) --no-print-directory

# What users set.
ARCH ?= $(shell go env GOARCH)
IMAGE ?= ghcr.io/trainrelay/trainrelay-agent:$(VERSION)
RUN ?= .
SKIP ?= ^$$
PACKAGES ?= ./...
FUZZTIME ?= 20s

.DEFAULT_GOAL := help
.PHONY: help build cluster-build python-image images generate verify vulncheck fmt lint lint-vet lint-static unit integration \
	test e2e demo demo-env demo-down bench fuzz clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Build trainrelay, trainrelay-agent and trainrelay-launch into bin/
	@echo "==> building trainrelay $(VERSION)"
	go build -ldflags '$(LDFLAGS)' -o bin/ ./relay/cmd/trainrelay ./agent/cmd/trainrelay-agent ./agent/cmd/trainrelay-launch

cluster-build: ## Build Kubernetes, containerd, CoreDNS, NATS and helm for the lab into bin/cluster/
	@echo "==> building Kubernetes $(KUBERNETES), containerd, CoreDNS, NATS and helm: long the first time, seconds later"
	go -C e2e build -ldflags '$(KUBERNETES_LDFLAGS)' -o ../bin/cluster/ ./cmd/k8s ./cmd/coredns ./cmd/nodeinit ./cmd/pause \
		github.com/containerd/containerd/v2/cmd/containerd \
		github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 \
		github.com/containerd/containerd/v2/cmd/ctr \
		github.com/nats-io/nats-server/v2 \
		helm.sh/helm/v4/cmd/helm

python-image: ## Make the image of examples/iris from Debian's packages, once
	@$(LAB) image

images: ## Assemble the agent's image into dist/images/: make images ARCH=arm64
	GOARCH=$(ARCH) go build -ldflags '$(LDFLAGS)' -o dist/$(ARCH)/ ./agent/cmd/trainrelay-agent ./agent/cmd/trainrelay-launch
	go -C e2e run ./cmd/agentimage --bin ../dist/$(ARCH) --arch $(ARCH) --tag $(IMAGE) \
		--out ../dist/images/trainrelay-agent-$(ARCH).tar

generate: ## Write anew what is generated, such as deploy/manifests
	go generate ./...
	go -C e2e generate ./...

verify: vulncheck ## Fail when what is generated is not in step with its source, or a vulnerability is known
	@now() { git status --porcelain && git diff; }; before="$$(now)" && $(MAKE_QUIETLY) generate && after="$$(now)" && \
	{ test "$$before" = "$$after" || \
	{ echo "make generate has changed files: see git status, and commit them"; exit 1; }; }

# Go's own database, which is a module too: nothing but the module proxy has to be reached.
vulncheck: ## Look the code and its dependencies up in Go's vulnerability database
	@echo "==> looking for known vulnerabilities"
	@go mod download golang.org/x/vulndb@latest
	@go $(GOVULNCHECK) -db "file://$$(go list -m -f '{{.Dir}}' golang.org/x/vulndb@latest)/data/osv" ./...

fmt: ## Format the Go files
	gofmt -l -w $(GO_FOLDERS)

lint: lint-vet lint-static ## Run gofmt, go vet and staticcheck

lint-vet:
	@unformatted="$$(gofmt -l $(GO_FOLDERS))" && test -z "$$unformatted" || \
	{ echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go -C e2e vet $(LINTED)

lint-static:
	go $(STATICCHECK) ./...
	go -C e2e $(STATICCHECK) $(LINTED)

unit: ## Run the product's own tests, with a real broker, TLS and proxies in process
	go test ./...

integration: cluster-build ## Run the tests against a real API server, the chart's, and those of output sent on
	go -C e2e test ./apiserver/... ./chart/... ./otlp/...

test: build ## Run what every change has to pass: linters, unit, integration, the main job
	@echo "==> 1/2 linters, unit and integration tests, side by side"
	$(MAKE_QUIETLY) --jobs=3 python-image integration unit lint
	@echo "==> 2/2 the main job, end to end on a real cluster"
	$(MAKE_QUIETLY) e2e RUN='^TestMainJob' PACKAGES=.
	@echo "==> all tests have passed"

# One package after another: each makes a cluster with the same addresses.
e2e: build cluster-build python-image ## Run end-to-end tests on real clusters: make e2e RUN=TestCancel
	go -C e2e test -count=1 -p=1 -v -timeout 60m -run '$(RUN)' -skip '$(SKIP)' $(PACKAGES)

demo: build ## Watch a training run on a real cluster behind a real proxy
	$(MAKE_QUIETLY) --jobs=2 python-image cluster-build
	@$(LAB) demo

demo-env: ## Print the settings that point trainrelay and kubectl at the demo
	@$(LAB) env

demo-down: ## Take the demo away, and what killed end-to-end tests left
	@$(LAB) down

bench: build cluster-build ## Measure against the raw system, as ratios, into dist/bench.json
	@go -C e2e run -ldflags '$(LDFLAGS)' ./cmd/bench --repo .. --out ../dist/bench.json

fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@.ci/fuzz $(FUZZTIME)

clean: ## Remove what was built
	rm -rf bin dist

# The tasks of the project: `make` prints one line for each.
# Needs Python 3.11 or newer and, for the tests, Go. It installs everything else itself.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV := tools/uv
RUN := $(UV) run --no-sync
SYNCED := .venv/.synced
# Files from packages of npm, which the server's pages load. npm comes with a Python package.
ASSETS := server/queuelet/console/vendor/versions.json
# The native transport, if there is a Rust to build it with.
TRANSPORT_BUILT := .venv/.transport
TRANSPORT_SOURCES := $(shell find transport/src transport/python -type f -not -name '*.pyc') \
	transport/Cargo.toml transport/Cargo.lock transport/pyproject.toml transport/README.md
READY := $(SYNCED) $(ASSETS) $(TRANSPORT_BUILT)
# google/api/annotations.proto and http.proto, which queue.proto imports, come with a Python package.
GOOGLEAPIS = $(shell .venv/bin/python -c 'import google.api; print(google.api.__path__[0] + "/../..")')
PROTOC = $(RUN) python -m grpc_tools.protoc -I $(GOOGLEAPIS)
OPENAPI := server/queuelet/rest/openapi.json
IMAGE := --include_imports --include_source_info
GRPCURL := .tools/bin/grpcurl
ACTIONLINT := .tools/bin/actionlint
# Programs of Kubernetes for the tests of the operator and of the chart.
BINARIES := etcd kube-apiserver kube-controller-manager kubectl helm
# Further programs for the tests with a real node.
NODE_BINARIES := kube-scheduler kubelet kube-proxy coredns

# The branch to compare with, if it exists.
BASE ?= origin/main
# `make check NEWS=no` accepts a change without a news fragment, because users can't notice it.
NEWS ?= yes
# The newest release, if there is one.
TAG = $(shell git describe --tags --abbrev=0 2>/dev/null)
# More arguments for pytest, or for uv lock: make test ARGS='-k peek'
ARGS ?=
# The release of Kubernetes that tests run on, and `make run` with them: make test KUBERNETES=v1.36.3
KUBERNETES ?=
export QUEUELET_KUBERNETES := $(KUBERNETES)
# The tests that run on the native transport too.
NATIVE ?= $(addprefix tests/rpc/,test_leases.py test_dead_letters.py test_delay_and_priority.py test_negz_q.py test_browse.py test_transports.py)
# The registry of a release's images: make dist REGISTRY=ghcr.io/owner
REGISTRY ?=

.PHONY: help
help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: sync
sync: $(READY) ## Install the packages of uv.lock into .venv, the console's files, and the native transport if there is cargo

$(SYNCED): pyproject.toml uv.lock
	$(UV) sync --locked --all-extras
	@touch $@

# After $(SYNCED), because uv removes packages that are not in uv.lock.
$(TRANSPORT_BUILT): $(TRANSPORT_SOURCES) tools/transport.sh $(SYNCED)
	@tools/transport.sh install
	@touch $@

.PHONY: console-assets
console-assets: $(ASSETS) ## Copy the files that the console needs from packages of npm

$(ASSETS): server/queuelet/console/package.json server/queuelet/console/package-lock.json tools/console_assets.py | $(SYNCED)
	$(RUN) python -m tools.console_assets
	@touch $@

.PHONY: generate
generate: $(SYNCED) ## Generate code from the .proto files, the client's reference, the architecture, OpenAPI, the chart's CRDs
	$(PROTOC) -I server --python_out=server --pyi_out=server queuelet/v1/queue.proto
	$(PROTOC) -I server/queuelet/compat \
		--python_out=server/queuelet/compat --pyi_out=server/queuelet/compat q.proto
	$(RUN) python -m tools.api_reference docs/client-api.md
	$(RUN) python -m tools.architecture
	$(RUN) python -m tools.openapi $(OPENAPI)
	cp crds/*.yaml helm/queuelet/files/crds/

.PHONY: check
check: $(SYNCED) ## Check everything without running it: style, types, layers, wire, lock, news
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) mypy --strict --config-file= --cache-dir=.mypy_cache/program tests/typing/program.py
	$(RUN) mypy --config-file transport/pyproject.toml --cache-dir=.mypy_cache/transport
	$(RUN) basedpyright --project tests/typing --pythonpath .venv/bin/python --level error
	$(RUN) lint-imports --no-logo
	$(RUN) python -m tools.console_types
	mkdir -p build
	$(PROTOC) $(IMAGE) -I server -o build/wire.binpb queuelet/v1/queue.proto
	$(RUN) buf lint build/wire.binpb --path queuelet/v1
	$(RUN) buf lint server/queuelet/compat
ifeq ($(TAG),)
	@echo "buf breaking: skipped, no tag to compare with"
else
	mkdir -p build/before
	git archive $(TAG) server/queuelet/v1/queue.proto | tar -x -C build/before
	$(PROTOC) $(IMAGE) -I build/before/server -o build/before/wire.binpb queuelet/v1/queue.proto
	$(RUN) buf breaking build/wire.binpb --against build/before/wire.binpb --path queuelet/v1
endif
	$(RUN) python -m tools.openapi --check $(OPENAPI)
	$(RUN) deptry server operator
	$(RUN) codespell
	$(RUN) yamllint --strict .
	$(UV) lock --check
	$(RUN) towncrier build --draft --version next >/dev/null
	@if [ '$(NEWS)' = no ]; then echo "towncrier check: skipped, NEWS=no"; \
	elif ! git rev-parse --quiet --verify $(BASE) >/dev/null; then echo "towncrier check: skipped, no $(BASE) to compare with"; \
	elif git diff --quiet $(BASE)... -- server operator crds helm; then echo "towncrier check: skipped, no shipped file differs from $(BASE)"; \
	else $(RUN) towncrier check --compare-with $(BASE); fi

.PHONY: lint-workflows
lint-workflows: $(ACTIONLINT) ## Check the workflows of a public host: needs Go
	$(ACTIONLINT)

.PHONY: docs
docs: ## Build the documentation as a site in dist/site, and check its links
	$(UV) run --locked --only-group docs python -m tools.docs_site

.PHONY: binaries
binaries: $(SYNCED) ## Build Kubernetes' API server and related programs, once per user: minutes
	@$(RUN) python -m tools.control_plane build $(BINARIES) >/dev/null

.PHONY: jars
jars: $(SYNCED) ## Fetch ZooKeeper and Curator for their tests, once per user, if there is a JDK
	@if $(RUN) python -m tools.zookeeper check; then $(RUN) python -m tools.zookeeper fetch; fi

.PHONY: jdk-packages
jdk-packages: $(SYNCED) ## Install Debian's JDK for ZooKeeper
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.zookeeper packages)

.PHONY: proxy-packages
proxy-packages: $(SYNCED) ## Install Debian's nginx for the tests with a proxy
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.proxy packages)

.PHONY: pooler-packages
pooler-packages: $(SYNCED) ## Install Debian's pgbouncer for the tests with a pooler of PostgreSQL
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.pooler packages)

.PHONY: browser-packages
browser-packages: $(SYNCED) ## Install Debian's Chromium for the tests of the console
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.browser packages)

.PHONY: pictures
pictures: $(READY) ## Take the pictures of the console in docs/images: seven minutes, with Chromium
	QUEUELET_DOCUMENT_PICTURES=docs/images QUEUELET_TRAFFIC_STEPS=1200 $(RUN) pytest -p no:randomly tests/console/test_document_pictures.py

.PHONY: test
test: $(READY) $(GRPCURL) binaries jars ## Run the tests
	$(RUN) pytest -n 2 --dist loadgroup --durations 30 --durations-min 8 $(ARGS)

.PHONY: test-quick
test-quick: $(READY) ## Run the tests that need neither Go nor Kubernetes: under two minutes
	$(RUN) pytest -n 2 --dist loadgroup tests/unit tests/stores tests/client $(ARGS)

.PHONY: test-native
test-native: $(READY) $(GRPCURL) ## Run tests of RPCs on servers with the native transport; all of them with NATIVE=tests/rpc
	QUEUELET_TRANSPORT=native $(RUN) pytest -n 2 --dist loadgroup $(NATIVE) $(ARGS)

.PHONY: test-transport
test-transport: $(READY) ## Check and test the native transport by itself, if there is cargo: two minutes
	@tools/transport.sh test

.PHONY: coverage
coverage: $(READY) ## Run the same tests, and print their code coverage
	$(RUN) coverage erase
	$(RUN) coverage run -m pytest -n 2 --dist loadgroup tests/unit tests/stores tests/client $(ARGS)
	$(RUN) coverage combine --quiet
	$(RUN) coverage report

.PHONY: test-node
test-node: $(READY) ## Run the tests that need a real node: root on Linux
	@$(RUN) python -m tools.node check
	@$(RUN) python -m tools.control_plane build $(BINARIES) $(NODE_BINARIES) >/dev/null
	$(RUN) pytest tests/node $(ARGS)

.PHONY: node-packages
node-packages: $(SYNCED) ## Install Debian's packages for a real node
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.node packages)

.PHONY: soak
soak: $(READY) $(GRPCURL) binaries jars ## Run the tests with large counts: an hour and a half
	QUEUELET_SOAK=1 $(RUN) pytest -n 2 --dist loadgroup --timeout 7200 $(ARGS)

.PHONY: bench
bench: $(ASSETS) ## Run the benchmarks, with other queue servers
	$(UV) run --locked --all-extras --group bench python -m bench $(ARGS)

.PHONY: bench-operator
bench-operator: ## Run the operator's benchmark, with a client that only writes and with NACK
	$(UV) run --locked --all-extras --group bench python -m bench operator $(ARGS)

.PHONY: bench-console
bench-console: $(READY) ## Measure what the console needs of a browser, with 10,000 queues: two minutes, with Chromium
	$(RUN) python -m bench.console $(ARGS)

.PHONY: run
run: $(READY) binaries ## Start Kubernetes' API server, server and operator here, and the example queues
	$(RUN) python -m examples.run_local $(ARGS)

.PHONY: lock
lock: ## Update uv.lock from pyproject.toml (ARGS=--upgrade: to the newest releases)
	$(UV) lock --default-index https://pypi.org/simple $(ARGS)

.PHONY: image
image: $(ASSETS) ## Build the container images of server and operator
	@docker info >/dev/null 2>&1 || { echo "make image: no Docker daemon responds; start one, because it builds the images" >&2; exit 1; }
	docker build --target server --tag queuelet-server:dev .
	docker build --target operator --tag queuelet-operator:dev .

.PHONY: dist
dist: $(READY) ## Build wheel, sdist, chart and SBOM into dist/ (REGISTRY=ghcr.io/owner names the images)
	rm -rf dist
	$(UV) build --quiet --out-dir dist
	$(UV) export --quiet --locked --no-dev --all-extras --format cyclonedx1.5 \
		--output-file "dist/queuelet-$$($(UV) version --short).cdx.json" >/dev/null
	mkdir dist/chart
	cp -r helm/queuelet dist/chart/
	[ -z '$(REGISTRY)' ] || sed -i 's|repository: queuelet-|repository: $(REGISTRY)/queuelet-|' dist/chart/queuelet/values.yaml
	"$$($(RUN) python -m tools.control_plane build helm)" package dist/chart/queuelet --destination dist
	rm -r dist/chart

.PHONY: changelog
changelog: $(SYNCED) ## Collect newsfragments/ in CHANGELOG.md, for a release
	$(RUN) towncrier build --yes --version "$$($(UV) version --short)"

.PHONY: clean
clean: ## Remove everything that was built here, except the generated code
	rm -rf .venv .tools .coverage* build dist transport/target server/queuelet/console/vendor .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find server operator tests transport -name __pycache__ -type d -prune -exec rm -rf {} +

$(GRPCURL) $(ACTIONLINT): tools/go_program.sh
	@tools/go_program.sh $@

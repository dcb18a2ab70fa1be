# Everything to do here, one line each: `make` prints it.
# Needs Python 3.11 or newer and, for the tests, Go. All else it gets itself.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV := tools/uv
RUN := $(UV) run --no-sync
SYNCED := .venv/.synced
GRPCURL := .tools/bin/grpcurl
ACTIONLINT := .tools/bin/actionlint
# What the tests of the operator and of the chart need of Kubernetes.
BINARIES := etcd kube-apiserver kube-controller-manager kubectl helm
# What the tests with a real node need besides.
NODE_BINARIES := kube-scheduler kubelet kube-proxy coredns

# What a branch is compared with, where it is there.
BASE ?= origin/main
# `make check NEWS=no` lets a change pass that no user can notice.
NEWS ?= yes
# The newest release, where there is one.
TAG = $(shell git describe --tags --abbrev=0 2>/dev/null)
# More for pytest, or for uv lock: make test ARGS='-k peek'
ARGS ?=
# The release of Kubernetes that tests run on, and `make run` with them: make test KUBERNETES=v1.36.3
KUBERNETES ?=
export QUEUELET_KUBERNETES := $(KUBERNETES)
# Where a release has its images: make dist REGISTRY=ghcr.io/owner
REGISTRY ?=

.PHONY: help
help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: sync
sync: $(SYNCED) ## Install what uv.lock says into .venv

$(SYNCED): pyproject.toml uv.lock
	$(UV) sync --locked --all-extras
	@touch $@

.PHONY: generate
generate: $(SYNCED) ## Make Python of the .proto files, the client's reference, the architecture, the chart's copy of the CRDs
	$(RUN) python -m grpc_tools.protoc -I server --python_out=server --pyi_out=server queuelet/v1/queue.proto
	$(RUN) python -m grpc_tools.protoc -I server/queuelet/compat \
		--python_out=server/queuelet/compat --pyi_out=server/queuelet/compat q.proto
	$(RUN) python -m tools.api_reference docs/client-api.md
	$(RUN) python -m tools.architecture
	cp crds/*.yaml helm/queuelet/files/crds/

.PHONY: check
check: $(SYNCED) ## Look at everything without running it: style, types, layers, wire, lock, news
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) mypy --strict --config-file= --cache-dir=.mypy_cache/program tests/typing/program.py
	$(RUN) basedpyright --project tests/typing --pythonpath .venv/bin/python --level error
	$(RUN) lint-imports --no-logo
	$(RUN) buf lint
ifeq ($(TAG),)
	@echo "buf breaking: there is no tag yet to compare with"
else
	$(RUN) buf breaking --against '.git#tag=$(TAG)'
endif
	$(RUN) deptry server operator
	$(RUN) codespell
	$(RUN) yamllint --strict .
	$(UV) lock --check
	$(RUN) towncrier build --draft --version next >/dev/null
	@if [ '$(NEWS)' = no ]; then echo "towncrier check: left out, NEWS=no"; \
	elif ! git rev-parse --quiet --verify $(BASE) >/dev/null; then echo "towncrier check: there is no $(BASE) to compare with"; \
	elif git diff --quiet $(BASE)... -- server operator crds helm; then echo "towncrier check: nothing that is shipped differs from $(BASE)"; \
	else $(RUN) towncrier check --compare-with $(BASE); fi

.PHONY: lint-workflows
lint-workflows: $(ACTIONLINT) ## Check the workflows of a public host: needs Go
	$(ACTIONLINT)

.PHONY: docs
docs: ## Build the documentation as a site in dist/site, and check its links
	$(UV) run --locked --only-group docs python -m tools.docs_site

.PHONY: binaries
binaries: $(SYNCED) ## Build Kubernetes' API server and what it needs, once per user: minutes
	@$(RUN) python -m tools.control_plane build $(BINARIES) >/dev/null

.PHONY: jars
jars: $(SYNCED) ## Fetch ZooKeeper and Curator for their tests, once per user, where there is a JDK
	@if $(RUN) python -m tools.zookeeper check; then $(RUN) python -m tools.zookeeper fetch; fi

.PHONY: jdk-packages
jdk-packages: $(SYNCED) ## Install what runs ZooKeeper of Debian
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.zookeeper packages)

.PHONY: proxy-packages
proxy-packages: $(SYNCED) ## Install the proxy that tests put before a server, of Debian
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.proxy packages)

.PHONY: test
test: $(SYNCED) $(GRPCURL) binaries jars ## Run the tests
	$(RUN) pytest -n 2 --dist loadgroup $(ARGS)

.PHONY: test-quick
test-quick: $(SYNCED) ## Run the tests that need neither Go nor Kubernetes: under two minutes
	$(RUN) pytest -n 2 --dist loadgroup tests/unit tests/stores tests/client $(ARGS)

.PHONY: coverage
coverage: $(SYNCED) ## Run the same tests, and print how much of the code they run
	$(RUN) coverage erase
	$(RUN) coverage run -m pytest -n 2 --dist loadgroup tests/unit tests/stores tests/client $(ARGS)
	$(RUN) coverage combine --quiet
	$(RUN) coverage report

.PHONY: test-node
test-node: $(SYNCED) ## Run the tests that need a real node: root on Linux
	@$(RUN) python -m tools.node check
	@$(RUN) python -m tools.control_plane build $(BINARIES) $(NODE_BINARIES) >/dev/null
	$(RUN) pytest tests/node $(ARGS)

.PHONY: node-packages
node-packages: $(SYNCED) ## Install what a real node needs of Debian
	apt-get update
	apt-get install --yes --no-install-recommends $$($(RUN) python -m tools.node packages)

.PHONY: soak
soak: $(SYNCED) $(GRPCURL) binaries jars ## Run the tests with large counts: an hour and a half
	QUEUELET_SOAK=1 $(RUN) pytest -n 2 --dist loadgroup --timeout 7200 $(ARGS)

.PHONY: bench
bench: ## Measure, beside other queue servers
	$(UV) run --locked --all-extras --group bench python -m bench $(ARGS)

.PHONY: bench-operator
bench-operator: ## Measure the operator, beside a client that only writes and beside NACK
	$(UV) run --locked --all-extras --group bench python -m bench.control_loop $(ARGS)

.PHONY: run
run: $(SYNCED) binaries ## Start Kubernetes' API server, server and operator here, and the example queues
	$(RUN) python -m examples.run_local $(ARGS)

.PHONY: lock
lock: ## Bring uv.lock up to pyproject.toml (ARGS=--upgrade: to the newest releases)
	$(UV) lock --default-index https://pypi.org/simple $(ARGS)

.PHONY: image
image: ## Build the container images of server and operator
	@docker info >/dev/null 2>&1 || { echo "make image: no Docker daemon answers here, and it builds the images" >&2; exit 1; }
	docker build --target server --tag queuelet-server:dev .
	docker build --target operator --tag queuelet-operator:dev .

.PHONY: dist
dist: $(SYNCED) ## Build wheel, sdist, chart and SBOM into dist/ (REGISTRY=ghcr.io/owner names the images)
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
changelog: $(SYNCED) ## Gather newsfragments/ into CHANGELOG.md, for a release
	$(RUN) towncrier build --yes --version "$$($(UV) version --short)"

.PHONY: clean
clean: ## Remove what was made here, other than the generated code
	rm -rf .venv .tools .coverage* dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find server operator tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(GRPCURL) $(ACTIONLINT): tools/go_program.sh
	@tools/go_program.sh $@

# Zhichao (治超). `make` alone lists the targets.
#
# Everything lives in one environment, .venv, made from the hashed locks; it is redone only when a lock changes.
# Another interpreter: make run PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1

PIP_INSTALL := $(BIN)/python -m pip install --quiet --progress-bar off
# Two makes in one checkout take turns at the environment (where flock exists; without it they may repeat the work).
IN_TURN := $(if $(shell command -v flock 2>/dev/null),flock $(VENV).lock)

PYTHON_SOURCES := $(wildcard services cli bench tests tools)
MYPY_PACKAGES := $(foreach name,services cli bench tests tools,$(if $(shell find $(name) -name '*.py' 2>/dev/null | head -n 1),$(name)))
RELEASE_TAG = $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

##@ Use

.PHONY: run
run: $(VENV)/runtime.stamp ## Start a platform with simulated trucks (RATE=, FOR=, SEED=, PHOTO_EVERY=)
	@$(BIN)/zhichao run $(if $(RATE),--rate $(RATE)) $(if $(FOR),--for $(FOR)) $(if $(SEED),--seed $(SEED)) \
		$(if $(PHOTO_EVERY),--photo-every $(PHOTO_EVERY))

.PHONY: bench
bench: $(VENV)/runtime.stamp ## Measure throughput and print the figures (ARGS=)
	@$(BIN)/python -m bench $(ARGS)

##@ Prove

.PHONY: test
test: $(VENV)/dev.stamp ## Run the tests (ARGS="-n 2 tests/weighing")
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist loadfile)

.PHONY: check
check: fmt-check lint types imports proto-lint proto-breaking gen-check deploy-check ## Run every static check

.PHONY: fmt-check
fmt-check: $(VENV)/dev.stamp ## Formatting of Python and protos
	@echo "==> Formatting"
	@$(BIN)/ruff format --check --quiet $(PYTHON_SOURCES) || { echo "run make fmt; these differ:"; $(BIN)/ruff format --check $(PYTHON_SOURCES); exit 1; }
	@$(BIN)/buf format --diff --exit-code || { echo "run make fmt"; exit 1; }

.PHONY: lint
lint: $(VENV)/dev.stamp ## Lint rules (ruff)
	@echo "==> Lint"
	@$(BIN)/ruff check --quiet $(PYTHON_SOURCES)

.PHONY: types
types: $(VENV)/dev.stamp ## Static types (mypy, strict)
	@echo "==> Types"
	@$(BIN)/mypy $(MYPY_PACKAGES:%=-p %)

.PHONY: imports
imports: $(VENV)/dev.stamp ## Who may import whom (.importlinter)
	@echo "==> Imports"
	@told=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$told"; exit 1; }; echo "$$told" | tail -n 1

.PHONY: proto-lint
proto-lint: $(VENV)/dev.stamp ## Proto style and comments (buf lint)
	@echo "==> Proto lint"
	@$(BIN)/buf lint

.PHONY: proto-breaking
proto-breaking: $(VENV)/dev.stamp ## Protos against the last release tag (buf breaking)
	@echo "==> Proto compatibility"
	@if [ -n "$(RELEASE_TAG)" ]; then \
		echo "against $(RELEASE_TAG)"; \
		$(BIN)/buf breaking --against "$$(git rev-parse --git-common-dir)#tag=$(RELEASE_TAG)"; \
	else \
		echo "no release tag (v…) here yet: nothing to compare with"; \
	fi

.PHONY: gen-check
gen-check: $(VENV)/dev.stamp ## Generated code in step with the protos
	@echo "==> Generated code"
	@$(BIN)/python tools/generate.py --check

.PHONY: deploy-check
deploy-check: $(VENV)/dev.stamp ## Sites of deploy/k8s build and are valid; Dockerfile and image list
	@echo "==> Deployment"
	@$(BIN)/python -m pytest --quiet -p no:cacheprovider -n 0 tests/contract/test_deploy_image.py \
		tests/contract/test_deploy_policies.py tests/contract/test_deploy_references.py \
		tests/contract/test_deploy_secrets.py tests/contract/test_deploy_settings.py tests/contract/test_deploy_sites.py \
		tests/contract/test_release.py

.PHONY: minio
minio: $(VENV)/dev.stamp ## Build MinIO with Go and start it on loopback, for work with the reference store
	@$(BIN)/python tools/minio.py start

.PHONY: image-check
image-check: $(VENV)/dev.stamp ## Run the Dockerfile's build stage without a container engine
	@$(BIN)/python tools/try_dockerfile.py

##@ Work

.PHONY: setup
setup: $(VENV)/dev.stamp ## Create or refresh the environment with the development tools

.PHONY: fmt
fmt: $(VENV)/dev.stamp ## Format Python and protos, fix what lint can fix
	@$(BIN)/ruff check --fix-only --quiet $(PYTHON_SOURCES)
	@$(BIN)/ruff format $(PYTHON_SOURCES)
	@$(BIN)/buf format --write

.PHONY: gen
gen: $(VENV)/dev.stamp ## Generate gen/ from protos/
	@$(BIN)/python tools/generate.py

.PHONY: release
release: $(VENV)/dev.stamp ## Write the version of pyproject.toml wherever deploy/ names it
	@$(BIN)/python tools/release.py

.PHONY: lock
lock: .venv-lock/uv.stamp ## Write the locks from pyproject.toml (UPGRADE=1 for newer indirect ones)
	@$(UV_COMPILE) --output-file requirements.lock pyproject.toml
	@$(UV_COMPILE) --extra dev --constraints requirements.lock --output-file requirements-dev.lock pyproject.toml
	@echo "requirements.lock and requirements-dev.lock are written"

.PHONY: clean
clean: ## Remove the environment, caches and build results
	@rm -rf $(VENV) $(VENV).lock .venv-lock build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environment

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo "Name another interpreter: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(IN_TURN) $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot create environments (Debian and Ubuntu: install python3-venv)." >&2; exit 1; }
	@touch $@

$(VENV)/lock.stamp: requirements.lock $(VENV)/python.stamp
	@echo "Installing what it runs on (requirements.lock)"
	@$(IN_TURN) $(PIP_INSTALL) --require-hashes --only-binary :all: --requirement requirements.lock
	@touch $@

# The package itself, editable: the scripts and the import path come from pyproject.toml.
$(VENV)/runtime.stamp: pyproject.toml $(VENV)/lock.stamp
	@$(IN_TURN) $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# setuptools first: the one source archive in the lock is then built with it, not with something fetched unhashed.
$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/runtime.stamp
	@echo "Installing the development tools (requirements-dev.lock)"
	@awk '/^[^ ]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock | \
		$(IN_TURN) $(PIP_INSTALL) --require-hashes --requirement /dev/stdin
	@$(IN_TURN) $(PIP_INSTALL) --require-hashes --no-build-isolation --use-pep517 --requirement requirements-dev.lock
	@touch $@

UV_VERSION := 0.13.9
UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --annotation-style line $(if $(UPGRADE),--upgrade)

.venv-lock/uv.stamp: Makefile
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --progress-bar off uv==$(UV_VERSION)
	@touch $@

# The two commands: `make run` shows the gateway at work, `make test` proves it. Both set up all they need in .venv.

PYTHON ?= python3
CONFIG ?= config/gateway.toml
WORKERS ?= 4
LANES ?= 4
UPGRADE ?=
BENCH ?=

VENV := .venv
BIN := $(VENV)/bin
CHECKOUT := $(VENV)/.checkout
SERVICE := $(VENV)/.service
TOOLS := $(VENV)/.tools
READY := $(if $(wildcard $(TOOLS)),$(TOOLS),$(SERVICE))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config --no-header \
	--no-emit-index-url --no-emit-find-links --annotation-style line $(UPGRADE)
PYTEST := $(BIN)/python -m pytest

# $(1): which tests, and how.
define tested
	$(PYTEST) $(1) -n $(WORKERS) --dist loadfile --no-loadscope-reorder || { \
		echo "SOME TESTS FAILED. THEY ARE RUN ONCE MORE, BY THEMSELVES: WHAT A BUSY MACHINE DISTURBED PASSES NOW."; \
		$(PYTEST) $(1) --last-failed --last-failed-no-failures none; \
	}
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run serve test check faults lock mutation load neighbour overload soak bench audit-bench schemas docs site sbom clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(READY) ## the sandbox and its tour; stays up for trying by hand, unless CI=true
	$(BIN)/pkb-gateway sandbox --tour $(if $(filter true,$(CI)),--port 0 --admin-port 0 --pkb-port 0,--stay)

serve: $(READY) ## the gateway with your own files: make serve CONFIG=config/gateway.toml
	$(BIN)/pkb-gateway serve --config "$(CONFIG)"

# Counting lines doubles what a test costs, so each branch of the domain and the flow is asked of their own tests, and of
# none that hypothesis makes up: what it reaches today it may not reach tomorrow.
test: check ## every check, every test, and the coverage that the domain and the flow must have
	@$(BIN)/coverage erase
	$(call tested,tests/domain tests/flow -m "not hypothesis" --cov --cov-append --cov-report=)
	$(BIN)/coverage report --fail-under=100
	$(call tested,tests)

check: $(TOOLS) ## format, lint, types, floors, Dockerfile, known weaknesses of dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@if [ -x $(BIN)/hadolint ]; then \
		echo "$(BIN)/hadolint --failure-threshold style Dockerfile"; \
		$(BIN)/hadolint --failure-threshold style Dockerfile; \
	else \
		echo "SKIPPED: THE DOCKERFILE WAS NOT LINTED, HADOLINT IS NOT PACKAGED FOR THIS PLATFORM"; \
	fi
	$(BIN)/python bench/dependencies.py

faults: $(TOOLS) ## every fault at every step of a write, on both routes and both stores; then each guard taken out
	$(BIN)/python -m tests.faults.report --lanes $(LANES)

lock: $(TOOLS) ## pin the dependencies of pyproject.toml anew: make lock UPGRADE=--upgrade for newer ones
	$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --constraints requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --group build --constraints requirements-dev.lock --output-file requirements-build.lock

mutation: $(TOOLS) ## break the domain on purpose, one place at a time; lists what no test noticed
	$(BIN)/python bench/mutation.py --processes $(WORKERS)

load: neighbour overload soak ## the three load benches, a quarter of an hour on a quiet machine

neighbour: $(TOOLS) ## one customer's PKB hangs: what do the others notice
	$(BIN)/python -m bench.neighbour

overload: $(TOOLS) ## three times what the gateway can do, for a minute
	$(BIN)/python -m bench.overload

bench: $(TOOLS) ## how fast, next to others that do the same work, a quarter of an hour; make bench BENCH=--quick for less
	$(BIN)/python -m bench.speed $(BENCH)

audit-bench: $(TOOLS) ## a million audit records: how fast they are verified and decided again
	$(BIN)/python -m bench.audit

soak: $(TOOLS) ## ten minutes of traffic while grants, keys and PKB's health change
	$(BIN)/python -m bench.soak

schemas: $(TOOLS) ## write the JSON Schemas of the TOML files, and the SQL that makes a new request store
	$(BIN)/python -m gateway.configuration.schemas
	$(BIN)/python -m gateway.storage.schema

docs: $(TOOLS) ## write docs/errors.md and docs/settings.md from the code
	$(BIN)/python docs/generate.py

site: $(TOOLS) ## the documents as a site to read offline, in build/site; a dead link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir build/site

sbom: $(TOOLS) ## the bill of materials of what a deployment installs, CycloneDX, in build/sbom.cdx.json
	$(BIN)/python bench/sbom.py --validate

clean: ## remove what can be made again; never var/, where the audit lies
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov mutants dist build
	find gateway tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# A copied or moved checkout would run the code of the old one, whose path the environment holds; and a Python that was
# upgraded away leaves an environment that cannot start. Both are made anew.
ifneq ($(shell $(BIN)/python -c pass 2>/dev/null && cat $(CHECKOUT) 2>/dev/null),$(CURDIR))
.PHONY: $(CHECKOUT)
endif

$(CHECKOUT):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "ERROR: $(PYTHON) is not Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && apt-get install --yes --no-install-recommends python3-venv; \
	else \
		echo "ERROR: $(PYTHON) comes without venv and ensurepip; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi
	@if [ -e $@ ] || ! $(BIN)/python -c pass 2>/dev/null; then rm -rf $(VENV); fi
	$(PYTHON) -m venv $(VENV)
	@echo "$(CURDIR)" >$@

$(SERVICE): $(CHECKOUT) requirements.lock requirements-build.lock pyproject.toml
	$(PIP) install --no-deps --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The tests start a PostgreSQL server and a Chromium of their own; without one they skip what needs it, and say so.
$(TOOLS): $(CHECKOUT) requirements-dev.lock pyproject.toml
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && apt-get install --yes --no-install-recommends postgresql || true; \
	else \
		echo "NOTE: NOTHING IS TESTED ON POSTGRESQL; on Debian and Ubuntu: apt-get install postgresql" >&2; \
	fi
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && apt-get install --yes --no-install-recommends chromium || true; \
	else \
		echo "NOTE: THE CONSOLE IS SEEN IN NO BROWSER; on Debian and Ubuntu: apt-get install chromium" >&2; \
	fi
	$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

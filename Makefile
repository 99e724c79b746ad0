# Every target sets up .venv by itself. Needed beforehand: Python 3.11 or later (with venv), git, make.

PYTHON ?= python3
WORKERS ?= 3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check check-static format docs bench clean

help: ## what can be done here
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name what; do \
	  printf '  make %-13s %s\n' "$$name" "$$what"; done

demo: .venv/.run-stamp ## a first run of jobs/quickstart.yaml; free and offline unless a key is set
	@set -eu; mkdir -p out; \
	if [ -n "$${ANTHROPIC_API_KEY:-}$${ANTHROPIC_AUTH_TOKEN:-}" ]; then \
	  echo 'A key is set: this asks the real API and spends at most $$0.25 (unset ANTHROPIC_API_KEY to stay offline).'; \
	  set -- --max-usd 0.25 -y; \
	else \
	  echo 'No key is set (ANTHROPIC_API_KEY): the built-in simulator answers. No network, no cost.'; \
	  set -- --simulate; \
	fi; \
	env -u RUNNER_DATABASE_URL -u RUNNER_SIMULATED_DATABASE_URL RUNNER_HOME='$(CURDIR)/.demo' \
	  $(BIN)/runner run jobs/quickstart.yaml -o out/tickets.jsonl "$$@"

test: .venv/.dev-stamp ## the tests, on SQLite and PostgreSQL (ARGS="-k name" narrows them)
	@$(PYTEST) -m 'not exhaustive' $(ARGS)

test-all: .venv/.dev-stamp ## the same with every fault test in its long form; log in test-all.log
	@set -o pipefail; $(PYTEST) $(ARGS) 2>&1 | tee test-all.log

check: check-static test ## everything a change must pass: format, lint, types, docs, tests, migrations

check-static: .venv/.dev-stamp ## the part of check that runs nothing: format, lint, types, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

format: .venv/.dev-stamp ## put the code in its usual form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.dev-stamp ## write the pages of docs/ that are made from the code
	$(BIN)/python docs/generate.py

bench: .venv/.bench-stamp ## speed and memory beside other clients (shorter: ARGS="--rows 1000 --slots 64 --only live")
	@$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove what the targets above have made
	rm -rf .venv .demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis test-all.log
	rm -f out/tickets.jsonl out/tickets.jsonl.*
	find runner tests migrations docs -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each purpose, so that nobody waits for what only another needs.
.venv/.run-stamp: pyproject.toml
	@$(call set-up)
	@echo 'Installing runner into .venv (once) ...'
	@$(PIP) install -e .
	@touch $@

.venv/.dev-stamp: pyproject.toml
	@$(call set-up)
	@echo 'Installing runner and its test tools into .venv (once) ...'
	@$(PIP) install -e '.[dev]'
	@touch .venv/.run-stamp $@

.venv/.bench-stamp: pyproject.toml
	@$(call set-up)
	@echo 'Installing runner and the clients it is measured beside into .venv (once) ...'
	@$(PIP) install -e '.[bench]'
	@touch .venv/.run-stamp $@

# A .venv whose Python has gone (upgraded, removed) is made anew.
define set-up
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  echo 'runner needs Python 3.11 or later; $(PYTHON) is '"$$($(PYTHON) --version 2>&1 | head -n 1)."; \
  echo 'Name another one: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 2; } >&2; \
$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || $(PYTHON) -m venv --clear .venv \
  || { echo 'No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv' >&2; exit 2; }
endef

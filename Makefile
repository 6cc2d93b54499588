# Two commands are all a fresh machine needs: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo bench test test-fast check lock clean

PY := .venv/bin/python
PYTEST_ARGS ?=
# Most tests wait for processes they started: two at a time take little more than half as long.
TESTERS ?= 2
DEMO_ARGS ?=
WHAT ?= --help
CODE := daythree sandboxes envs agents trainer benchmarks examples tests

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with the locked packages (GPU or CPU, by what the machine has); instant when nothing changed
	@scripts/setup.sh

demo: setup ## the main job, end to end: register, evaluate, train, evaluate again (about 20 minutes on 2 cores)
	@scripts/ensure-tools.sh
	@$(PY) -m daythree demo $(DEMO_ARGS)

bench: setup ## measure a part: make bench WHAT=sandbox (or episodes, layers, grading, rollout, learner, fuzz)
	@$(PY) -m benchmarks $(WHAT)

test: setup ## everything; installs and starts a Docker engine where it may, because the Docker tests must run
	@scripts/ensure-tools.sh
	@scripts/ensure-docker.sh || echo "==> no Docker engine: tests marked docker will be skipped"
	@$(PY) -m pytest -n $(TESTERS) $(PYTEST_ARGS)

test-fast: setup ## under two minutes: no Docker, no training, nothing slow
	@$(PY) -m pytest -n 4 -m "not docker and not train and not slow" $(PYTEST_ARGS)

check: setup ## format, lint, types, import rules
	@.venv/bin/ruff format --check $(CODE)
	@.venv/bin/ruff check $(CODE)
	@.venv/bin/pyright
	@.venv/bin/lint-imports

lock: setup ## resolve locks/*.txt again from pyproject.toml
	@scripts/lock.sh

clean: ## remove what was built; run folders and task sets stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

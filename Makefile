# OpenModel: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: venv
venv: ## the development environment in .venv
	@hack/venv

.PHONY: demo
demo: ## cluster, operator, two models, a chat with each (CLUSTER=current: in your own cluster)
	@hack/demo/run

.PHONY: test
test: lint ## every test: unit, contract, golden, cluster, e2e (takes a running local cluster down, starts its own)
	@hack/test

.PHONY: test-fast
test-fast: venv ## unit and contract tests, no cluster
	@$(PYTHON) -m pytest tests/unit tests/contract

.PHONY: lint
lint: venv ## ruff, mypy, import-linter, shellcheck
	@ruff format --check .
	@ruff check .
	@mypy
	@mypy hack/models
	@mypy hack/images
	@mypy hack/demo hack/protos hack/docs hack/observability
	@mypy tests
	@lint-imports
	@git ls-files hack .ci | xargs grep -l '^#!/usr/bin/env bash' | xargs shellcheck --external-sources --severity=warning

.PHONY: format
format: venv ## rewrites the code in the house's format
	@ruff format .
	@ruff check --fix .

.PHONY: generate
generate: venv ## protobuf code, the pages of metrics and alerts, dashboards and rules anew
	@$(PYTHON) hack/protos/generate.py
	@PYTHONPATH=protos $(PYTHON) hack/docs/metrics.py
	@PYTHONPATH=protos $(PYTHON) hack/observability/write.py

.PHONY: lock
lock: venv ## requirements anew from pyproject.toml
	@hack/lock

.PHONY: cluster
cluster: ## the local Kubernetes (needs root)
	@hack/cluster/up

.PHONY: cluster-down
cluster-down: ## ends the local Kubernetes; images stay
	@hack/cluster/down

.PHONY: images
images: venv ## builds and pushes both images, installs or upgrades the operator in the local cluster
	@eval "$$(hack/cluster/env)"; hack/install

# Benchmarks that need no cluster.
LOCAL_BENCHES := engine experts families held operator scaling telemetry trace

.PHONY: bench
bench: venv ## BENCH=name [QUICK=1]: one module of tests/bench
	@test -n "$(BENCH)" || { echo "make bench BENCH=NAME [QUICK=1]; names: $$(cd tests/bench && grep -l '^def main' *.py | sed 's/\.py//' | xargs)"; exit 2; }
	@$(if $(filter $(BENCH),$(LOCAL_BENCHES)),,eval "$$(hack/cluster/env)"; )cd tests && PYTHONPATH=.:../hack/demo ../$(PYTHON) -m bench.$(BENCH) $(if $(QUICK),--quick)

.PHONY: soak
soak: venv ## [MINUTES=20]: a group of pods under load while ranks and pods are killed, stopped, added and ended
	@cd tests && PYTHONPATH=.:../operator:../runtime:../protos ../$(PYTHON) -m chaos.soak $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: clean
clean: ## ends the cluster and removes what was built (tools, images, models, .venv)
	@hack/cluster/down --purge
	@rm -rf .venv "$${OPENMODEL_CACHE:-$$HOME/.cache/openmodel}"

# `make demo` and `make test` do everything from a fresh clone; see README.md.

VENV := .venv
BIN := $(VENV)/bin
BENCHES := $(subst _,-,$(patsubst bench/%/__main__.py,%,$(wildcard bench/*/__main__.py)))

.DEFAULT_GOAL := help
.PHONY: help setup demo engine test lint check-fast bench clean

help: ## Show this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.complete ## Install everything that Serai needs into .venv

$(VENV)/.complete: pyproject.toml uv.lock tools/setup.sh
	@sh tools/setup.sh $(VENV)
	@touch $@

demo: $(VENV)/.complete ## Serve an example and call it (ONCE=1 ends by itself)
	@$(BIN)/python tools/demo.py $(if $(ONCE),--once)

engine: $(VENV)/.complete ## Build the pinned Nomad and Consul into .engine/bin
	@sh tools/engine/build.sh $(BIN)/python

test: $(VENV)/.complete ## Run all checks and all tests
	@sh tools/system_packages.sh test
	@sh tools/prometheus.sh
	@sh tools/engine/build.sh $(BIN)/python
	@sh tools/test.sh

lint: $(VENV)/.complete ## Run the checks without the tests
	@sh tools/test.sh lint

check-fast: $(VENV)/.complete ## Run the checks and the tests that need no programs
	@sh tools/test.sh fast

bench: $(addprefix bench-,$(BENCHES)) ## Run every benchmark

bench-%: $(VENV)/.complete
	@sh tools/system_packages.sh bench
	@$(BIN)/python -m bench.$(subst -,_,$*)

clean: ## Remove what make has made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache bench/.work

# The two commands are `make demo` and `make test`; the rest are their parts.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format soak bench bench-peers clean python

PEERS := $(patsubst benchmarks/peers/%/requirements.txt,benchmarks/.venvs/%/.installed,\
  $(wildcard benchmarks/peers/*/requirements.txt))

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "voxpop needs Python 3.11 or newer as '$(PYTHON)'; found: $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install it (Debian/Ubuntu: apt install python3; macOS: brew install python), or name one: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module. Debian/Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.run  ## Watch a real labeling job run from input to labels (nothing else needed)
	$(BIN)/voxpop demo

test: $(VENV)/.dev check  ## Format, lint, types, import rules, and the whole test suite
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev  ## Format, lint, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(VENV)/.dev  ## The longer proofs: 200 concurrent histories with killed clients, 3,000 in lockstep
	VOXPOP_HISTORIES=200 $(BIN)/python -m pytest -n 2 --timeout 3600 tests/faults/test_histories.py -k clients_are_killed
	VOXPOP_LOCKSTEP=1500 $(BIN)/python -m pytest -n 2 --timeout 3600 tests/property/test_lockstep.py

bench: $(VENV)/.dev bench-peers  ## Everything measured beside its peers, the million-item job included (about an hour)
	$(BIN)/voxpop bench
	$(BIN)/python -m benchmarks.report

bench-peers: $(PEERS)  ## The systems that voxpop is measured beside, each in an environment of its own

# A peer that cannot be installed is skipped by name when the benchmarks run.
benchmarks/.venvs/%/.installed: benchmarks/peers/%/requirements.txt | python
	$(PYTHON) -m venv --clear $(@D)
	@if $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<; then touch $@; \
	else echo "$* could not be installed; it will be skipped"; fi

format: $(VENV)/.dev  ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove what was built here
	rm -rf $(VENV) benchmarks/.venvs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

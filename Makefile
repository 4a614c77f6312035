# Bare `make` tells what there is. Another interpreter: `make demo PYTHON=python3.12`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install -c constraints.txt
SAY := @printf '== %s\n'

.PHONY: help demo test test-all
.DEFAULT_GOAL := help

help:
	@echo 'make demo   learn the weight and smoothing of a TV deblurring, and write a report'
	@echo 'make test   every check: ruff, import-linter, pyright, pytest with doctests'
	@echo 'make test-all   those, and the long ones: thousands of random problems, other code paths'
	@echo 'All set up $(VENV) first, with $(PYTHON) (choose another with PYTHON=...).'

demo: $(VENV)/installed
	$(SAY) 'demo'
	@$(BIN)/bilevel demo

test: $(VENV)/installed-test
	$(SAY) 'ruff: rules'
	@$(BIN)/ruff check --quiet
	$(SAY) 'ruff: format'
	@$(BIN)/ruff format --check --quiet
	$(SAY) 'import-linter: floors'
	@$(BIN)/lint-imports --no-logo
	$(SAY) 'pyright: strict'
	@$(BIN)/pyright
	$(SAY) 'pytest: tests and doctests'
	@$(BIN)/pytest -n 2 -q -m 'not long'

test-all: test
	$(SAY) 'pytest: long tests'
	@$(BIN)/pytest -n 2 -q -m long

# Stamps: written when an installation has finished, older than what it was made from otherwise.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "bilevel needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(SAY) 'setting up $(VENV) (PyTorch is large: this can take some minutes)'
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) torch==2.13.0
	@$(PIP) -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(SAY) 'installing what the tests need'
	@$(PIP) -e '.[test]'
	@touch $@

# make demo | test | slow | lint | bench | docs: each sets up what it needs in .venv, once, and keeps it.
# Any Python from 3.11 on will do: make test PYTHON=python3.12

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --editable
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: demo test slow lint bench docs clean

demo: .venv/.demo
	$(BIN)/nstyle demo

test: .venv/.dev lint
	$(PYTEST) -m "not slow"

slow: .venv/.dev
	$(PYTEST) -m slow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.bench
	$(BIN)/python experiments/benchmarks/step.py

docs: .venv/.docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf .venv docs/_build build dist demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@echo "setting up .venv with $(PYTHON)"
	$(PYTHON) -m venv .venv

.venv/.%: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing nstyle[$*] (about a minute the first time)"
	$(INSTALL) ".[$*]"
	@touch $@

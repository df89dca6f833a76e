# Every target sets up what it needs. PYTHON=... chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo dev fmt lint test check bench wheel clean

demo: $(VENV)/.runtime
	$(BIN)/qcoder demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by its exact version: other versions bring gigabytes of CUDA.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[dev]'
	touch $@

dev: $(VENV)/.dev
	$(BIN)/pre-commit install

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev
	$(BIN)/pytest -q -m "not slow and not gpu"

check: lint test

bench: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	$(BIN)/python -P benchmarks/completion_quality.py --format json > benchmarks/results/completion_quality.json

wheel: $(VENV)/.dev
	$(BIN)/python -P -m build --wheel --no-isolation

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

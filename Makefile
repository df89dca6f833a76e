# Every target sets up what it needs. PYTHON=... chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
VSCODE := editors/vscode
# What the compiled parts are made of: when it changes they are built anew.
COMPILED := $(wildcard kernels/native/*) context/words.cpp

.PHONY: demo dev fmt lint test check kernels bench bench-gpu wheel vsix test-vscode e2e-vscode e2e-nvim e2e-helix e2e-emacs clean

demo: $(VENV)/.runtime
	$(BIN)/qcoder demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "qcoder needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Plain pip takes the torch build of your package index; README.md says how to get the small one.
$(VENV)/.runtime: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	@echo "Installing qcoder into $(VENV) (torch is large: minutes on the first run)" >&2
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV)" >&2
	$(PIP) -e '.[dev]'
	@touch $@

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

# Compiles the Triton kernels for three GPUs; no GPU is needed.
kernels: $(VENV)/.dev
	$(BIN)/python -P benchmarks/kernel_resources.py

# Parity, then times, on an NVIDIA GPU.
bench-gpu: $(VENV)/.dev
	$(BIN)/python -P benchmarks/gpu.py --format json > benchmarks/results/gpu.json

# One script a published number; each prints one JSON object, kept under benchmarks/results/.
bench: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	@mkdir -p benchmarks/results
	for script in $$(ls benchmarks/*.py | grep -v /gpu.py); do name=$$(basename "$$script" .py); \
	  $(BIN)/python -P "$$script" --format json > "benchmarks/results/$$name.json" || exit 1; done
	$(BIN)/qcoder bench lsp --format json > benchmarks/results/lsp.json
	$(BIN)/qcoder bench index --format json > benchmarks/results/index.json
	$(BIN)/qcoder bench context --format json > benchmarks/results/context.json

wheel: $(VENV)/.dev
	rm -rf build dist
	$(BIN)/python -P -m build --wheel --no-isolation

$(VSCODE)/node_modules/.package-lock.json: $(VSCODE)/package.json $(VSCODE)/package-lock.json
	cd $(VSCODE) && npm ci --no-audit --no-fund
	@touch $@

# The extension brings the server as a source distribution, which it installs where the user agrees.
vsix: $(VSCODE)/node_modules/.package-lock.json $(VENV)/.dev
	rm -rf $(VSCODE)/server
	$(BIN)/python -P -m build --sdist --no-isolation --outdir $(VSCODE)/server . > /dev/null
	cd $(VSCODE) && npm run --silent check && npm run --silent package

# A real VS Code in a headless browser; the screenshots of the documentation come from here.
e2e-vscode: vsix
	$(VSCODE)/test/window/get_code_server.sh
	cd $(VSCODE) && QCODER_SERVER=$(abspath $(BIN))/qcoder-lsp QCODER_VSIX=$(abspath $(VSCODE))/qcoder.vsix \
	  QCODER_CONSTRAINTS=$(abspath constraints.txt) npm run --silent e2e -- $(abspath docs/images)

test-vscode: $(VSCODE)/node_modules/.package-lock.json
	cd $(VSCODE) && npm run --silent check && npm test

# Real editors in a terminal; without the editor these fail, where `make test` skips.
# QCODER_NVIM (0.12 or newer), QCODER_NVIM_OLD (0.7 to 0.10) and QCODER_HX name other programs.
e2e-nvim: $(VENV)/.dev
	test -n "$$QCODER_NVIM" || tests/e2e/get_editors.sh nvim
	QCODER_EDITORS_REQUIRED=1 $(BIN)/pytest -q -rs tests/e2e/test_neovim.py tests/e2e/test_neovim_commands.py

e2e-helix: $(VENV)/.dev
	test -n "$$QCODER_HX" || tests/e2e/get_editors.sh hx
	QCODER_EDITORS_REQUIRED=1 $(BIN)/pytest -q -rs tests/e2e/test_helix.py

# Emacs and eglot come from the system's packages: apt-get install emacs-nox elpa-eglot.
e2e-emacs: $(VENV)/.dev
	QCODER_EDITORS_REQUIRED=1 $(BIN)/pytest -q -rs tests/e2e/test_emacs.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	rm -rf $(VSCODE)/dist $(VSCODE)/*.vsix

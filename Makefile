# Every target sets up what it needs in .venv from a fresh clone: Python 3.11, make and pip are enough.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint format peers browser bench docs clean

help:
	@echo "make run    train a network on Fashion-MNIST and show what backpropagation did"
	@echo "make test   run the tests"
	@echo "make lint   style, types and the import contract of the layers"
	@echo "make peers  compare values and gradients with PyTorch (installs it)"
	@echo "make browser  the page and the studio in a real browser (needs Chromium)"
	@echo "make bench  measure training steps beside PyTorch and JAX (installs them)"
	@echo "make docs   run every example in README.md and docs/"
	@echo "make clean  remove .venv, caches and build results (runs/ stays)"

run: $(VENV)/.app
	$(BIN)/chainrule train fashion-mnist $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest tests --ignore=tests/peers -p no:cacheprovider $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(VENV)/.peers
	$(BIN)/python -m pytest tests/peers -p no:cacheprovider $(ARGS)

browser: $(VENV)/.browser
	$(BIN)/python -m pytest tests/browser -p no:cacheprovider $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.bench_eager
	$(BIN)/python -m benchmarks.bench_compile $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_readme.py -p no:cacheprovider $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that a step was finished, so a half-made environment is mended and a finished one
# is left alone. Where the venv module comes without pip (some Debian systems), pip installs itself.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "chainrule needs Python 3.11 or newer; $(PYTHON) is %d.%d. Choose another one: make PYTHON=/path/to/python3.11" % v[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV) \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@touch $@

$(VENV)/.app: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[plots]"
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.app

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable ".[dev,browser]"
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable ".[peers]"
	@touch $@

$(VENV)/.bench: $(VENV)/.peers
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	@touch $@

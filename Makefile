# One command each, from a fresh clone with nothing installed but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := test
# The exact versions that the tests were run with; nothing else about the set-up is pinned.
CONSTRAINTS := .ci/constraints.txt
INSTALLED := $(VENV)/.installed
TEST_PROCESSES := 2
# A file at a time, in the order of tests/conftest.py: the longest first.
PARALLEL = -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
FUZZ_PROCESSES := 2
FUZZ_SECONDS := 600

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types unit slow large browser coverage docs parity fuzz fuzz-atheris wheel clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make the virtual environment and install into it

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -q -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	@touch $@

demo: $(INSTALLED) ## encode and decode a real photo with a region of interest
	$(BIN)/rcodec demo --out demo

test: lint types unit ## everything that has to pass: lint, types, tests

lint: $(INSTALLED) ## ruff
	$(BIN)/ruff check

types: $(INSTALLED) ## mypy
	$(BIN)/mypy

unit: $(INSTALLED) ## pytest, TEST_PROCESSES files at a time
	$(BIN)/python -m pytest -q $(PARALLEL)

slow: $(INSTALLED) ## the tests that take long, most of them training runs of small models
	$(BIN)/python -m pytest -q $(PARALLEL) -m slow

large: $(INSTALLED) ## the tests that take up to 20 GB of memory: models of the paper's size
	$(BIN)/python -m pytest -q -m large

# Gradio wants an older Pillow than the tests have, so that it gets an environment of its own. The
# browser is the machine's: install the package chromium. Screenshots go to out/browser.
browser: ## the page of `rcodec app` in headless Chromium
	$(PYTHON) -m venv .venv-app
	sed 's/^pillow==.*/pillow<13/' $(CONSTRAINTS) > .venv-app/constraints.txt
	.venv-app/bin/python -m pip install --disable-pip-version-check -q -c .venv-app/constraints.txt -e ".[browser]"
	.venv-app/bin/python -m pytest -q --noconftest -m browser tests/browser

# Counting branches makes the tests slower, so `make test` does without it.
coverage: $(INSTALLED) ## branch coverage of the package by its tests
	$(BIN)/python -m pytest -q $(PARALLEL) --cov=rcodec_jax --cov-branch --cov-report=term:skip-covered

docs: $(INSTALLED) ## API reference from the docstrings, into out/docs
	JAX_PLATFORMS=cpu $(BIN)/python .ci/docs.py out/docs

# Needs 12 GB of disk and 8 GB of memory. PyTorch from PyPI brings CUDA along on Linux: an index of
# CPU builds, in PIP_EXTRA_INDEX_URL, saves gigabytes.
parity: $(INSTALLED) ## our networks against diffusers and PyTorch, up to the full size of SD 2.1 and 1.5
	$(BIN)/python -m pip install --disable-pip-version-check -q -c $(CONSTRAINTS) -e ".[$(EXTRAS),parity]"
	$(BIN)/python -m pytest -q -s -m "large or not large" tests/export/test_parity.py tests/export/test_parity_full.py tests/export/test_text_encoder.py

fuzz: $(INSTALLED) ## 100,000 damaged files and 20,000 damaged models, then long property tests
	$(BIN)/python tests/fuzz/fuzz_decoder.py --damages 100000 --processes $(FUZZ_PROCESSES)
	$(BIN)/python tests/fuzz/fuzz_decoder.py --damages 20000 --processes $(FUZZ_PROCESSES) --parts
	RCODEC_HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q tests/entropy tests/bitstream

fuzz-atheris: $(INSTALLED) ## coverage-guided fuzzing for FUZZ_SECONDS, inputs kept in out/fuzz
	$(BIN)/python -m pip install --disable-pip-version-check -q atheris
	$(BIN)/python tests/fuzz/fuzz_decoder.py out/fuzz/corpus -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=out/fuzz/

wheel: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m pip wheel --no-deps -q -w dist .

clean: ## remove what the other targets made
	rm -rf $(VENV) .venv-app dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

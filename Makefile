# Everything from a bare checkout: `make train`, `make test`, `make prove`, `make bench`, `make help`.

MINIMUM := 3.11
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools
PEERS := $(VENV)/.peers
# PyTorch without CUDA; where this index can't be reached, PyPI's own.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Warnings of a user's own environment have no part in the tests.
unexport PYTHONPATH PYTHONWARNINGS

.PHONY: help train test lint docs prove bench bench-check clean dist-check test-oldest

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

train: $(INSTALLED) ## train MNIST and print the accuracy for the test images
	@$(VENV)/bin/fastmlp train

test: lint ## run ruff, mypy and pytest
	@$(RUN) -m pytest --numprocesses auto --dist worksteal

lint: $(TOOLS)
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

docs: $(TOOLS) ## build the docs as a site into build/site; warnings and dead links are errors
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

prove: $(TOOLS) ## prove float32 exp, log, tanh, logistic right for all 2^32 inputs, in some minutes
	@$(RUN) tests/prove_elementary.py

bench: $(PEERS) ## measure beside other libraries; writes bench/results, docs/pictures, README.md
	@$(VENV)/bin/fastmlp bench --full --update-readme

bench-check: $(INSTALLED) ## fail where the ratios to NumPy and to the machine's limit fell below 0.85x
	@$(VENV)/bin/fastmlp bench --check

dist-check: ## install wheel and sdist into clean environments and test them there
	@.ci/dist-check $(PYTHON)

test-oldest: ## run the tests with the oldest Python, NumPy and Numba allowed
	@.ci/test-oldest python$(MINIMUM)

clean: ## remove the environment
	rm -rf $(VENV)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python of $(MINIMUM) or newer with venv found: \
	install one, or name it with make PYTHON=..." >&2; exit 2; }
	@echo "Installing into $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Apart from the package, which takes a tenth of their time to install.
$(TOOLS): $(INSTALLED)
	@echo "Installing what tests and docs need into $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,docs]'
	@touch $@

$(PEERS): $(INSTALLED)
	@echo "Installing the libraries to compare with into $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --retries 0 --timeout 15 \
		--index-url $(TORCH_INDEX) torch || true
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

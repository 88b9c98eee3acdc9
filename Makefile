# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both create .venv and install into it if need be; no environment has to be activated.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
# Two installs at once would get into each other's way.
.NOTPARALLEL:
.PHONY: help demo test random bench paper docs linkcheck notebooks lint format clean

help:
	@echo 'make demo    fit an example as it is written, marginalized and directly, and compare'
	@echo '             (another one: make demo ARGS=penicillin; all choices: make demo ARGS=--help)'
	@echo 'make test    run the tests (some: make test ARGS="-k recover"; long ones too: ARGS=--runslow)'
	@echo 'make random  random models with new seeds (SEEDS="1 2 3", MODELS=1000 for each)'
	@echo 'make bench   measure, and write docs/benchmarks.md (DATA=folder: the models of the paper too)'
	@echo 'make docs    build the documentation: docs/_build/html/index.html'
	@echo 'make linkcheck  check its links to other sites'
	@echo 'make notebooks  run the notebooks and store what they show (some: ARGS="quickstart funnels")'
	@echo 'make paper   do the experiments of the paper, and write docs/paper (DATA=folder with its data;'
	@echo '             some: make paper DATA=folder ARGS="figure4 --models dutch"; all: ARGS=--help)'
	@echo 'make lint    check style (ruff) and types (mypy)'
	@echo 'make format  format the code and apply safe fixes'
	@echo 'make clean   remove caches and build products, but not $(VENV)'
	@echo
	@echo '$(VENV) is created if it is missing; PYTHON=/path/to/python chooses the interpreter for it.'

demo: $(VENV)/.installed-demo
	$(BIN)/python -m pymc_marginal_lmm.demo $(ARGS)

# One BLAS thread: threads spin on small matrices, and there is one worker per core already.
# Compilers that optimise less, and no notes of where nodes were made: what is compiled is
# run a few times.
CHEAPLY := PYTENSOR_FLAGS=traceback__limit=0 NUMBA_OPT=1 XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
test: $(VENV)/.installed-dev
	$(CHEAPLY) OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# New seeds find new faults: a failing model prints as a program.
SEEDS ?= $(shell date +%s)
MODELS ?= 1000
random: $(VENV)/.installed-dev
	for seed in $(SEEDS); do \
	    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/test_random_models.py \
	        --runslow -k test_many --random-models=$(MODELS) --hypothesis-seed=$$seed $(ARGS) || exit 1; \
	done

# The linear algebra of most models is too small for several threads.
bench: $(VENV)/.installed-dev
	OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1} $(BIN)/python -m experiments.benchmarks $(if $(DATA),--data $(DATA)) $(ARGS)

# A warning is an error: a link inside the site that leads nowhere, say.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	@echo 'Built docs/_build/html/index.html'

linkcheck: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet -b linkcheck docs docs/_build/linkcheck

notebooks: $(VENV)/.installed-dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.notebooks $(ARGS)

# What is finished is not run again. Without a folder: ARGS="table1 table2 figure3".
paper: $(VENV)/.installed-demo
	OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1} $(BIN)/python -m experiments.paper run $(ARGS) $(if $(DATA),--data $(DATA))

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy pymc_marginal_lmm experiments

format: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf build dist .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/notebooks
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The stamps make an install happen again only when pyproject.toml or the environment is new.
$(VENV)/.installed-dev: pyproject.toml $(BIN)/python
	$(PIP) install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed-demo $(VENV)/.installed-docs

$(VENV)/.installed-demo: pyproject.toml $(BIN)/python
	$(PIP) install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(BIN)/python
	$(PIP) install --quiet --editable '.[docs]'
	@touch $@

$(BIN)/python:
	@if python=$$(sh scripts/find-python); then \
	    echo "Creating $(VENV) with $$python" && "$$python" -m venv --clear $(VENV); \
	elif command -v uv >/dev/null 2>&1; then \
	    rm -rf $(VENV) && uv venv --seed --python 3.13 $(VENV); \
	else \
	    echo 'No Python >= 3.12 with the venv module was found: neither as python3.14, python3.13,' >&2; \
	    echo 'python3.12 or python3, nor under ~/.pyenv/versions, and there is no uv to fetch one.' >&2; \
	    echo 'Install one (python.org, your package manager, pyenv or uv), or name one you have:' >&2; \
	    echo '    PYTHON=/path/to/python make test' >&2; \
	    exit 1; \
	fi
	@$(PIP) install --quiet --upgrade pip

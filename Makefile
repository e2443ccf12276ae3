# Every command of the project. `make` alone prints them.
#
# Settings are given as variables: make search DATASET=cifar10 CHANNELS=8 is dnas search --dataset=cifar10 --channels=8.
# `make search HELP=1` explains them all.

SHELL := /bin/bash
# What was typed is data: handed on as it is, it is never expanded, neither here nor for the environment of programs, and `value`
# has it below.
TYPED := $(foreach v,$(.VARIABLES),$(if $(filter command line,$(origin $(v))),$(v)))
unexport $(TYPED)
define LINE_BREAK


endef
ifneq ($(strip $(foreach v,$(TYPED),$(if $(findstring $(LINE_BREAK),$(value $(v))),$(v)))),)
$(error a setting holds a line break, which make cannot hand on; call dnas itself)
endif
PYTHON ?= python3
VENV ?= .venv
# Where the commands run. With BIN= (empty: the programs on PATH) or another folder nothing is installed.
BIN ?= $(VENV)/bin/
# As the shell reads it, where the path has blanks.
EMPTY :=
IN_BIN := $(subst $(EMPTY) ,\ ,$(BIN))
ifneq ($(word 2,$(VENV)),)
$(error VENV is "$(VENV)", but files that make looks after have no blanks in their names; give another folder)
endif
INSTALLED := $(if $(filter $(VENV)/bin/,$(BIN)),$(VENV)/installed-app)
# What exports networks and runs them elsewhere needs packages that a search does not.
INSTALLED_EXPORT := $(if $(filter $(VENV)/bin/,$(BIN)),$(VENV)/installed-export)
# So does LiteRT. Its converter is installed without what it asks for, see setup.cfg, and where it has a wheel.
CONVERTER := 'litert-converter==0.5.0; (sys_platform=="linux" and platform_machine=="x86_64") or (sys_platform=="darwin" and platform_machine=="arm64")'
INSTALLED_LITERT := $(if $(filter $(VENV)/bin/,$(BIN)),$(VENV)/installed-litert)
FOR_LITERT = $(if $(value LITERT)$(filter litert,$(value RUNTIME)),$(INSTALLED_LITERT))
# What a run needs that may write and measure such networks.
NEEDED = $(if $(value TABLE)$(value ONNX),$(INSTALLED_EXPORT),$(INSTALLED)) $(FOR_LITERT)
INSTALLED_DEV := $(if $(filter $(VENV)/bin/,$(BIN)),$(VENV)/installed-dev)

# Variables of the command line become flags, but those that are set in this file, and these.
OWN := HELP PYTEST MAKEFLAGS MFLAGS $(shell sed -nE 's/^([A-Z_]+) *[:?]?=.*/\1/p' $(firstword $(MAKEFILE_LIST)))
GIVEN := $(filter-out $(OWN),$(TYPED))
FLAGS = $(foreach v,$(GIVEN),--$(shell echo '$(v)' | tr A-Z_ a-z-)='$(subst ','\'',$(value $(v)))')$(if $(value HELP), --help)

# Tests are mostly compilation, which uses one core a program. Neighbours stay in one process, for what they share, until one
# has nothing left to do and takes over half of what another has. tests/conftest.py says what all of them share.
PARALLEL := -n auto --maxprocesses=4 --dist=worksteal

.DELETE_ON_ERROR:
.PHONY: help install search text retrain evaluate report study suite pareto bench table scores fit verify-resume notebook test test-slow test-slow-ci test-minimum fuzz chaos lint types wheel wheel-search check format clean

help:  ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "Settings are variables: make search DATASET=cifar10 DATA_DIR=~/data EPOCHS=50. HELP=1 lists those of a command."

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dnas needs Python 3.11 or newer; give PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-app: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[app]'
	@touch $@

$(VENV)/installed-export: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[app,export]'
	@touch $@ $(VENV)/installed-app

$(VENV)/installed-litert: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[app,litert]'
	$(VENV)/bin/python -m pip install --quiet --no-deps $(CONVERTER)
	@touch $@ $(VENV)/installed-app

$(VENV)/installed-dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev,export]'
	$(VENV)/bin/python -m pip install --quiet --no-deps $(CONVERTER)
	@touch $@ $(VENV)/installed-app $(VENV)/installed-export $(VENV)/installed-litert

install: $(INSTALLED_DEV)  ## make the environment in .venv with all that development needs

search: $(NEEDED)  ## search a cell, retrain it and random cells, write a report: runs/NAME/report.html
	$(IN_BIN)dnas search $(FLAGS)

text: $(NEEDED)  ## search a recurrent cell on a text, train it and a random one: TEXT=file.txt
	$(IN_BIN)dnas text $(FLAGS)

retrain: $(NEEDED)  ## train the network of GENOTYPE (a file or a published name) from scratch
	$(IN_BIN)dnas retrain $(FLAGS)

evaluate: $(INSTALLED)  ## score the trained networks of a finished run again: RUN=runs/NAME
	$(IN_BIN)dnas evaluate $(FLAGS)

report: $(INSTALLED)  ## write the report of a finished run again: RUN=runs/NAME
	$(IN_BIN)dnas report $(FLAGS)

study: $(INSTALLED)  ## several methods and seeds on a space with a tabular benchmark: BENCHMARK=file.csv.gz; continues when killed
	$(IN_BIN)dnas study $(FLAGS)

suite: $(INSTALLED)  ## methods in the nine settings of DARTS-Bench-Suite, ranked in each: FULL=1 on a GPU; continues when killed
	$(IN_BIN)dnas suite $(FLAGS)

scores: $(INSTALLED)  ## score all networks of a space without training: SCORES=naswot,synflow BENCHMARK=file.csv.gz; continues when killed
	$(IN_BIN)dnas scores $(FLAGS)

fit: $(INSTALLED)  ## fit a cost model to measured networks and score it on others: CSV=file COLUMN=name SAMPLES=500
	@$(IN_BIN)dnas fit $(FLAGS)

pareto: $(NEEDED)  ## searches for several targets, accuracy against cost: TABLE=name POINTS=5; continues when killed
	$(IN_BIN)dnas pareto $(FLAGS)

bench: $(INSTALLED)  ## time a step, cold and warm; GROW=all as sizes grow; PEER=command in turn with a peer
	$(IN_BIN)dnas bench $(FLAGS)

table: $(INSTALLED_EXPORT) $(FOR_LITERT)  ## measure the parts of a search space on this device: SPACE=name RUNTIME=onnxruntime OUT=file.csv
	$(IN_BIN)dnas table $(FLAGS)

verify-resume: $(NEEDED)  ## kill short searches at random moments, resume them, compare every bit: KILLS=3 and settings of a search
	@$(IN_BIN)dnas verify-resume $(FLAGS)

notebook: $(INSTALLED_DEV)  ## run experiments/notebooks/*.ipynb and keep the outputs in them
	$(IN_BIN)python -m experiments.run_notebooks

test: $(INSTALLED_DEV)  ## run the tests (minutes)
	$(IN_BIN)python -m pytest $(PARALLEL) $(PYTEST)

# Whole commands run optimised programs, as users do; the others are compilation, see tests/conftest.py.
OPTIMISED := XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true"
COMMANDS := tests/app tests/test_readme.py
# What measures the machine runs alone: beside another process a small network may seem to cost nothing.
MEASURING := tests/app/test_table_command.py

test-slow: $(INSTALLED_DEV)  ## run the tests that take longer
	$(OPTIMISED) $(IN_BIN)python -m pytest -m slow $(MEASURING) $(PYTEST)
	$(OPTIMISED) $(IN_BIN)python -m pytest $(PARALLEL) -m slow $(COMMANDS) --ignore=$(MEASURING) $(PYTEST)
	$(IN_BIN)python -m pytest $(PARALLEL) -m slow $(COMMANDS:%=--ignore=%) $(PYTEST)

test-slow-ci: $(INSTALLED_DEV)
	$(OPTIMISED) $(IN_BIN)python -m pytest -m slow $(MEASURING) $(PYTEST)
	$(OPTIMISED) $(IN_BIN)python -m pytest $(PARALLEL) -m slow tests/export tests/methods tests/running tests/test_search.py tests/test_chaos.py tests/test_wheel.py \
	    tests/app/test_{digits,datasets,bench,spaces,study,suite,fit_command,notebooks,hardware,ahead,text_job}.py $(PYTEST)

# Old packages lack a function or return another type, which shows on the first case of a test as well as on the last. So
# every test runs, but on one case each, and all ops, relaxations, spaces, optimisers and selections go through their contracts.
test-minimum: $(VENV)-minimum/installed  ## run one case of each test with the oldest packages that setup.cfg allows
	$(VENV)-minimum/bin/python -m pytest $(PARALLEL) --first-cases $(PYTEST)

$(VENV)-minimum/installed: setup.cfg pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(VENV)-minimum
	$(VENV)-minimum/bin/python -m pip install --quiet --editable '.[dev]' --constraint constraints-minimum.txt
	@touch $@

fuzz: export EXAMPLES ?= 10000
fuzz: $(INSTALLED_DEV)  ## try EXAMPLES=10000 odd inputs of each kind, new ones each time
	$(IN_BIN)python -m pytest $(PARALLEL) tests/fuzz $(PYTEST)

chaos: $(INSTALLED_DEV)  ## kill, starve, damage and double real runs; SHORT=1 for less of it
	$(IN_BIN)python -m experiments.studies.chaos $(FLAGS)

lint: $(INSTALLED_DEV)  ## check style and formatting
	$(IN_BIN)python -m ruff check .
	$(IN_BIN)python -m ruff format --check .

types: $(INSTALLED_DEV)  ## check the types of the library
	$(IN_BIN)python -m pyright --pythonpath "$$($(IN_BIN)python -c 'import sys; print(sys.executable)')"

wheel: $(INSTALLED_DEV)  ## build the package into dist/ and check what it says of itself
	rm -rf dist
	$(IN_BIN)python -m build
	$(IN_BIN)python -m twine check --strict dist/*

wheel-search: $(INSTALLED_DEV)  ## time `dnas search` from the wheel, in an empty folder and environment
	$(IN_BIN)python -m experiments.studies.wheel

format: $(INSTALLED_DEV)  ## format the code
	$(IN_BIN)python -m ruff check --fix .
	$(IN_BIN)python -m ruff format .

check: lint types test  ## lint, check types and test: run it before you hand in

clean:  ## remove the environment and caches, keep runs/
	rm -rf $(VENV) $(VENV)-minimum .pytest_cache .ruff_cache *.egg-info build dist

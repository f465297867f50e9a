# Two commands do everything: `make demo` and `make test`. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# Modules are compiled when they are first imported, unless Python may not keep what it compiles.
LATER := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
PROCESSES ?= 2
# Slow tests wait for other processes half of their time.
WORKERS ?= $(if $(FAST),2,3)
DATA ?= data
RUNS ?= runs

.DEFAULT_GOAL := help
.PHONY: help setup demo news cifar report paper test style suite lab clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the environment in .venv

$(READY): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: PYTHON=$(PYTHON): must be Python 3.11 or newer")'
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LATER) --editable '.[test]'
	@touch $@

demo: $(READY) ## run the embedded study on digits, then make the report
	$(BIN)/python -m lib run slurm/demo.yaml --processes $(PROCESSES) --runs $(RUNS)
	@$(MAKE) --no-print-directory report

news: $(READY) ## run the NEWS study, hours (DATA=folder with scikit-learn's cache, else it is downloaded)
	$(BIN)/python -m lib run slurm/news.yaml --processes $(PROCESSES) --runs $(RUNS) --data $(DATA)
	@$(MAKE) --no-print-directory report

cifar: $(READY) ## run CIFAR-10 without a GPU, hours (DATA=folder with the data, else it is downloaded)
	$(BIN)/python -m lib run slurm/cifar10_cpu.yaml --processes $(PROCESSES) --runs $(RUNS) --data $(DATA)
	@$(MAKE) --no-print-directory report

report: $(READY) ## make tables, figures and report of the runs that are there, in RUNS/figures
	$(BIN)/python -m lib report --runs $(RUNS)

paper: $(READY) ## rebuild the committed figures from the committed logs
	$(BIN)/python -m lib paper

test: $(READY) ## check style and types and run every test (FAST=1: only those that are quick)
	@$(MAKE) --no-print-directory --jobs 2 style suite

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

suite: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	    $(if $(FAST),-m 'not slow' --durations 10)

lab: $(READY) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

clean: ## remove the environment and caches; runs, data and figures are kept
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

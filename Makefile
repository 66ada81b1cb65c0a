SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_DOCS := $(VENV)/.ready-docs
QUICKSTART := runs/quickstart-$(shell date +%Y%m%d-%H%M%S)
export OMP_NUM_THREADS ?= 1
# Tests that share a Ray in one process, the others in another, whose words come last.
define side_by_side
@said=$$(mktemp); $(BIN)/pytest -m "$(1)" --ignore=tests/contract >$$said 2>&1 & others=$$!; \
	$(BIN)/pytest -m "$(1)" tests/contract; contract=$$?; \
	wait $$others; others=$$?; cat $$said; rm $$said; exit $$((others | contract))
endef

.DEFAULT_GOAL := help
.PHONY: help run test test-all docs docs-test lint format bench results protos clean

help:  ## show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(READY)  ## install, run scenarios/quickstart.yaml, and make its report
	$(BIN)/equiran run scenarios/quickstart.yaml --out $(QUICKSTART)
	$(BIN)/equiran report $(QUICKSTART)

test: lint  ## tests, lint, types and import contracts
	$(call side_by_side,not slow and not alone)
	$(BIN)/pytest -m "not slow and alone"

test-all: lint  ## the same, and the slow reproductions
	$(call side_by_side,not alone)
	$(BIN)/pytest -m alone

docs: $(READY_DOCS)  ## the pages as a site that needs no network, site/index.html
	$(BIN)/sphinx-build -q -W --keep-going -c docs . site

docs-test: $(READY_DEV)  ## run every command of README and docs, and build the site; minutes
	$(BIN)/pytest -m docs tests/docs

lint: $(READY_DEV)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY_DEV)  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## the benchmarks, each beside its own floor; kept in docs/benchmarks
	$(BIN)/equiran bench slot --users 2 --peer-style --out docs/benchmarks/slot_2_users.json
	$(BIN)/equiran bench slot --users 8 --out docs/benchmarks/slot_8_users.json
	$(BIN)/equiran bench scale --out docs/benchmarks/scale.json
	$(BIN)/equiran bench scale --trunk --out docs/benchmarks/scale_trunk.json
	$(BIN)/equiran bench power --out docs/benchmarks/power.json
	$(BIN)/equiran bench power --complexity --out docs/benchmarks/power_complexity.json
	$(BIN)/equiran bench power --beside-slots --out docs/benchmarks/power_beside_slots.json
	$(BIN)/equiran bench sweep --out docs/benchmarks/sweep.json
	$(BIN)/equiran bench start --out docs/benchmarks/start.json

results: $(READY)  ## every reproduction (hours the first time), into docs/results.md
	$(BIN)/equiran reproduce all --out runs/reproduce
	cp runs/reproduce/table.csv tests/reproduction/expected.csv
	cp runs/reproduce/results.md docs/results.md
	cp runs/reproduce/images/*.png docs/images/

protos: $(READY_DEV)  ## generate the protocol's Python files again
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. protos/edge.proto protos/reception.proto

clean:  ## remove what make made, except runs
	rm -rf $(VENV) build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "EquiRAN needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	.ci/install-torch $(BIN)/python
	touch $@

$(READY): $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(READY_DEV): $(READY)
	$(PIP) install -q -c constraints.txt -e '.[test,lint]'
	touch $@

$(READY_DOCS): $(READY)
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $@

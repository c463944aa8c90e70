# `make run` starts the service; `make test` runs every test; `make docs` builds the site. Each
# installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# Processes that run tests at the same time. Many tests wait for processes of their own.
WORKERS ?= 2
INSTALL = $(PIP) install --quiet --constraint constraints.txt

.PHONY: run test docs pictures lint format wheel wheel-test clean

run: $(VENV)/service.installed
	$(BIN)/lhp serve

# Tests start hundreds of Python processes. Without bytecode, each would compile every module again.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The documentation is at site/index.html"

# Measures for some minutes, then takes the pictures of pages that the documentation shows.
pictures: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.pictures

lint: $(VENV)/dev.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The source distribution, and the wheel from it, into dist/.
wheel: $(VENV)/dev.installed
	rm -rf dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --outdir dist

# The wheel in empty environments: the base asks, [server] serves, neither has torch.
wheel-test: wheel
	$(BIN)/python -m pytest tests/package/wheel.py

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/service.installed: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	@echo "Installing the service into $(VENV) (a few minutes the first time: torch is large)"
	$(INSTALL) --editable '.[server,measure,plot]'
	@touch $@

$(VENV)/dev.installed: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	@echo "Installing the service and its tests into $(VENV) (a few minutes the first time: torch is large)"
	$(INSTALL) --editable '.[server,measure,trainer,plot,pandas,polars,otel,dev]'
	@touch $@

$(VENV)/docs.installed: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	@echo "Installing what the documentation needs into $(VENV)"
	$(INSTALL) --editable '.[server,docs]'
	@touch $@

# Two commands are all a newcomer needs: `make demo` and `make test`.
# Each creates .venv and installs into it first; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-all lint docs package install clean

demo: install
	$(BIN)/python -m applications.demo

# Two processes, each with whole files: a fixture of a file is made once. In their order,
# as by numbers of tests the few long ones would come last, one process idle.
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: install
	$(PYTEST)

test-all: install
	$(PYTEST) -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Runs all guides, draws their pictures; a warning is an error. Open docs/_build/html/index.html.
docs: install
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . docs/_build/html

# A wheel and an sdist, each tried in an empty environment.
package: install
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m tools.package_smoke dist/*

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("kfeedback needs Python 3.11 or newer, got " + sys.version.split()[0] + "; run make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo_output docs/_build *.egg-info

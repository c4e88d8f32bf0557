# Two commands: `make quickstart` runs the whole thing on the bundled pictures, `make test` tests it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The extra of the accelerator that is there: cuda12, cuda13, tpu or none. `make EXTRA=... quickstart`
# takes another, `EXTRA=` the CPU.
EXTRA := $(shell $(PYTHON) -I fsclip_jax/accelerators.py)
READY := $(VENV)/installed$(addprefix -,$(EXTRA))

.PHONY: quickstart test lint docs site tutorials install clean

quickstart: $(READY)
	$(BIN)/python train.py configs/quickstart.py $(TRAIN_FLAGS)
	$(BIN)/python eval.py configs/quickstart.py $(EVAL_FLAGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(TEST_FLAGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed
	$(BIN)/python scripts/make_docs.py

site: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tutorials: $(VENV)/installed-test
	$(BIN)/python scripts/run_tutorials.py

install: $(READY)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fsclip_jax needs Python 3.11 or newer; this is %d.%d: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-cuda12 $(VENV)/installed-cuda13 $(VENV)/installed-tpu: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA)]'
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/installed

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed $(VENV)/installed-test

clean:
	rm -rf $(VENV) runs build dist *.egg-info

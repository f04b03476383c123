# make demo    captions the sample pictures with the built-in model
# make test    the tests, in minutes; those in ComfyUI and in a browser too, where there are any (README)
# make check   style, types, slow tests, and the oracle tests with every supported transformers
#
# Each makes its own environment in .venv first. PYTHON chooses the interpreter (3.10 or later).

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/installed
	@$(BIN)/joycaption demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	mkdir -p .cache/types && ln -sfn ../.. .cache/types/pack # the nodes' types, against the stand-in for ComfyUI
	cd .cache/types && MYPYPATH=../../tests/support/standin ../../$(BIN)/mypy --config-file ../../pyproject.toml -p pack.nodes
	$(BIN)/python -m pytest -m slow
	$(BIN)/python tests/matrix.py

clean:
	rm -rf .venv .cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cli]"
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

# Two commands are all a newcomer needs: `make quick` and `make test`. Both set up what they need, and can be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quick test test-slow test-gpu check format lock bench bench-compare bench-peers clean help

help:           ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed 's/:.*##/\t/' | expand -t 18

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

quick: $(STAMP) ## train eight strategies on real text and print their leaderboard
	$(BIN)/equipoise run quick
	$(BIN)/equipoise report quick

test: $(STAMP)  ## the tests that must always pass
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## the long ones
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP) ## those that need a GPU
	$(BIN)/python -m pytest -m gpu

check: $(STAMP) ## style, types, import direction
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock:           ## write requirements.lock: the newest versions that pyproject.toml allows, in a fresh environment
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0 "numpy<2.4"
	.venv-lock/bin/python -m pip install --quiet --editable '.[dev,hub]'
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

# Two commands are all a newcomer needs: `make quick` and `make test`. Both set up what they need, and can be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MEGABLOCKS := $(VENV)/.megablocks

.PHONY: install quick submissions test test-files test-beside test-slow test-gpu bench bench-compare bench-baseline bench-peers check format lock gpu-wheels gpu-campaign clean help

help:           ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed 's/:.*##/\t/' | expand -t 18

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

install: $(STAMP) ## the environment alone, in .venv

quick: $(STAMP) ## train eight strategies on real text and print their leaderboard
	$(BIN)/equipoise run quick
	$(BIN)/equipoise report quick

# MegaBlocks comes as sources that ask for an old torch: built here, without CUDA and without what they ask for.
SOURCES := megablocks==0.10.0 stanford-stk==0.7.1
$(MEGABLOCKS): $(STAMP)
	$(BIN)/python -m pip install --quiet 'setuptools>=77' \
	  && ( $(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps triton==3.6.0 ) \
	  && $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(SOURCES) \
	  || echo 'MegaBlocks cannot be installed here: its tests will be skipped, and say so'
	touch $@

submissions: $(STAMP) ## check the published boards: what a change adds under results/ is a stranger's until checked
	$(BIN)/equipoise verify results/published

# Files share two processes, of one thread each; beside them goes what mostly waits for a scheduler or a browser.
TEST_JOBS ?= 2
BESIDE := tests/slurm tests/results/pages/test_results_browser.py
test: $(STAMP) $(MEGABLOCKS)  ## the tests that must always pass
	@mkdir -p build; $(MAKE) --no-print-directory test-beside > build/test-beside.log 2>&1 & beside=$$!; \
	  $(MAKE) --no-print-directory test-files; files=$$?; wait $$beside; beside=$$?; cat build/test-beside.log; exit $$((files | beside))

test-files: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile $(BESIDE:%=--ignore %)

test-beside: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -p no:cacheprovider $(BESIDE)

test-slow: $(STAMP) ## the long ones
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP) ## those that need a GPU
	$(BIN)/python -m pytest -m gpu

# One thread, and its own CPU time unless a benchmark says otherwise: what is measured is the code, not what else ran.
BENCH := mkdir -p build && OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -m 'not gpu' \
  -p no:cacheprovider --benchmark-enable --benchmark-only --benchmark-timer=time.process_time \
  --benchmark-json=build/bench.json --benchmark-group-by=group --benchmark-sort=min --benchmark-columns=median,min,iqr,rounds
COMPARE := $(BIN)/python tests/benchmarks/compare.py build/bench.json

bench: $(STAMP) ## time every part: a table, ratios, and build/bench.json
	$(BENCH)
	$(COMPARE) --ratios

bench-compare: $(STAMP) ## the same, as ratios to the stored baseline; fails if something is slower by half
	$(BENCH)
	$(COMPARE)

bench-baseline: $(STAMP) ## the same, stored as the baseline
	$(BENCH)
	$(COMPARE) --write

# What users would pick instead, beside the suite and not among what it needs.
PEERS := transformers==5.23.0
build/peers/.installed: $(STAMP)
	rm -rf build/peers && $(BIN)/python -m pip install --quiet --disable-pip-version-check --target build/peers -c requirements.lock $(PEERS)
	touch $@

bench-peers: build/peers/.installed ## the same model and batch here, in Hugging Face transformers, and as a dense twin
	PYTHONPATH=build/peers $(BIN)/python -m tests.benchmarks.peers --out build/peers.json

# What a GPU machine without a network lacks, and where results go. PARTS: parity layer step overhead packing tests sweep profile board
WHEELS ?= build/wheels
OUT ?= build/gpu
PARTS ?=
GPU_PYTHON ?= python3
FOR_GPU := --python-version 3.12 --implementation cp --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64

gpu-wheels: $(STAMP) ## wheels to bring to a GPU machine, into WHEELS
	$(BIN)/python -m pip install --quiet 'setuptools>=77'
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEELS) $(SOURCES)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: $(FOR_GPU) --dest $(WHEELS) \
	  $$(grep -E '^(pydantic|pydantic_core|annotated-types|typing-inspection)==' requirements.lock)

gpu-campaign:   ## measure this machine's GPU: PARTS, with the WHEELS brought along, results into OUT
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON) -P -m suite.campaign $(PARTS) --out $(OUT) \
	  $(if $(wildcard $(WHEELS)/*.whl),--wheels $(WHEELS))

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
